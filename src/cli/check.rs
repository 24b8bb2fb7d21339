//! `rescind check`. Verifies no signature: it answers about revocation only.

use std::path::PathBuf;

use clap::Args;

use super::connection::Servers;
use super::exit::{Exit, Failure};
use super::output::{plain, say, say_fields};
use super::selection::{TokenSource, read_file};
use crate::revocation::{Claims, Position};
use crate::surface::http::{self, render_time};
use crate::token::{JSON_BYTES_MAX, TokenKind, TokenParser};
use crate::wire::pb::check_service_client::CheckServiceClient;
use crate::wire::{self, pb};

#[derive(Debug, Args)]
#[command(after_help = "Exits with 0 if the token is not revoked, 1 if it is, 2 if that cannot be told.")]
pub(super) struct Check {
    #[command(flatten)]
    token: TokenSource,
    /// A file with the claims of a token as JSON, instead of the token; - for standard input.
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["token", "token_file", "opaque"])]
    claims_file: Option<PathBuf>,
    /// Answer only from a set that has come this far, as printed by revoke.
    #[arg(long, value_name = "POSITION", value_parser = position)]
    at_least: Option<Position>,
    /// Say what was found, and where.
    #[arg(long)]
    explain: bool,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    servers: Servers,
}

impl Check {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let presented = self.presented()?;
        let request = pb::CheckTokenRequest {
            token: Some(pb::PresentedToken { presented: Some(presented.clone()) }),
            at_least: self.at_least.map(wire::position_message),
        };
        let mut client = CheckServiceClient::new(self.servers.connect().await?);
        let response = client.check_token(request).await?.into_inner();
        if self.json {
            say(http::check(&response));
        } else {
            say(plain(&headline(&response)));
            if self.explain {
                say_fields(&explanation(&response, &presented));
            }
        }
        Ok(exit(&response))
    }

    /// The token or the claims that the flags name.
    pub(super) fn presented(&self) -> Result<pb::presented_token::Presented, Failure> {
        use pb::presented_token::{Claims, Presented};
        if let Some(path) = &self.claims_file {
            let payload_json = read_file(path, JSON_BYTES_MAX)?.into_bytes();
            return Ok(Presented::Claims(Claims { payload_json, header_json: None }));
        }
        match self.token.read()? {
            Some(token) if self.token.opaque => Ok(Presented::OpaqueToken(token)),
            Some(token) => Ok(Presented::Token(token)),
            None => Err(Failure::cannot("say what to check: --token, --token-file or --claims-file")),
        }
    }
}

fn outcome(response: &pb::CheckTokenResponse) -> Option<&pb::verdict::Outcome> {
    response.verdict.as_ref().and_then(|verdict| verdict.outcome.as_ref())
}

/// An outcome that is not set reads as unknown.
fn exit(response: &pb::CheckTokenResponse) -> Exit {
    use pb::verdict::Outcome;
    match outcome(response) {
        Some(Outcome::NotRevoked(_)) => Exit::Done,
        Some(Outcome::Revoked(_)) => Exit::Negative,
        Some(Outcome::Unknown(_)) | None => Exit::CannotTell,
    }
}

fn headline(response: &pb::CheckTokenResponse) -> String {
    use pb::verdict::Outcome;
    match outcome(response) {
        Some(Outcome::NotRevoked(_)) => "not revoked".into(),
        Some(Outcome::Revoked(revoked)) => format!("revoked by {}", revoked.claim_names.join(", ")),
        Some(Outcome::Unknown(unknown)) => {
            let policy = if unknown.deny { "refuse" } else { "accept" };
            let missing = if unknown.missing.is_empty() { "" } else { " " };
            format!("unknown: {}{missing}{} (policy: {policy})", unknown.cause().as_str_name(), unknown.missing)
        }
        None => "unknown".into(),
    }
}

fn explanation(
    response: &pb::CheckTokenResponse,
    presented: &pb::presented_token::Presented,
) -> Vec<(&'static str, String)> {
    let mut fields = Vec::new();
    if let Some(pb::verdict::Outcome::Revoked(revoked)) = outcome(response) {
        let tested = wire::tested(revoked.cutoff_on).map(wire::tested_name).unwrap_or("time");
        fields.push(match revoked.cutoff_seconds {
            Some(seconds) => ("cutoff", format!("{tested} up to {}", render_time(seconds))),
            None => ("cutoff", "none: every matching token".to_owned()),
        });
    }
    let claims = own_claims(presented);
    for (name, time) in [("iat", claims.iat), ("auth_time", claims.auth_time), ("exp", claims.exp)] {
        let text = time.map_or_else(|| "none".to_owned(), |time| render_time(time.0));
        fields.push((name, text));
    }
    if let Some(position) = response.position.as_ref().and_then(|message| wire::position(message).ok()) {
        fields.push(("position", position.to_string()));
    }
    fields.push(("staleness", format!("{:.3} s", response.staleness_millis as f64 / 1000.0)));
    fields
}

/// What the token says of itself; nothing when it cannot be read.
fn own_claims(presented: &pb::presented_token::Presented) -> Claims {
    use pb::presented_token::Presented;
    let mut claims = Claims::new();
    let mut parser = TokenParser::new();
    // The server has accepted it, and what is left empty on an error is shown as such.
    let _ = match presented {
        Presented::Token(token) => {
            parser.parse_token(&mut claims, token.as_bytes(), TokenKind::Detect).map(drop).map_err(drop)
        }
        Presented::OpaqueToken(_) => Ok(()),
        Presented::Claims(given) => parser.parse_claims(&mut claims, &given.payload_json, None).map_err(drop),
    };
    claims
}

fn position(text: &str) -> Result<Position, String> {
    text.parse().map_err(|error: crate::revocation::PositionError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pb::verdict::{NotRevoked, Outcome, Revoked, Unknown};

    #[test]
    fn an_outcome_that_is_not_set_is_unknown_and_never_a_zero() {
        let response = |outcome| pb::CheckTokenResponse {
            verdict: Some(pb::Verdict { outcome }),
            ..pb::CheckTokenResponse::default()
        };
        assert_eq!(exit(&response(Some(Outcome::NotRevoked(NotRevoked {})))), Exit::Done);
        assert_eq!(exit(&response(Some(Outcome::Revoked(Revoked::default())))), Exit::Negative);
        assert_eq!(exit(&response(Some(Outcome::Unknown(Unknown::default())))), Exit::CannotTell);
        assert_eq!(exit(&response(None)), Exit::CannotTell);
        assert_eq!(exit(&pb::CheckTokenResponse::default()), Exit::CannotTell);
    }
}
