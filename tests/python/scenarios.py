"""What is revoked and which tokens that reaches: every verdict here was worked out by hand from the data model's rules.

A scenario revokes one thing. Its tokens are listed as refused or accepted afterwards; before it, and once it is
reinstated, all of them are accepted. Each scenario has identifiers of its own, so that none touches another's tokens.
"""

import dataclasses
import time
import uuid

from mint import ISSUER, Issuer, claims, signing_input_sha256

KEYS = {"rs": "RS256", "es": "ES256", "ed": "EdDSA", "leaked": "EdDSA", "spared": "EdDSA"}
OTHER_ISSUER = "https://other.example"
LATER = 300


@dataclasses.dataclass
class Scenario:
    """`revocation` as the JSON twin writes it, times in unix seconds; the tokens by a phrase that says why."""

    name: str
    revocation: dict
    refused: dict
    accepted: dict

    def tokens(self):
        """(why, token, refused) for each."""
        refused = [(why, token, True) for why, token in self.refused.items()]
        return refused + [(why, token, False) for why, token in self.accepted.items()]


def unique(prefix):
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


class Table:
    """All scenarios, with tokens minted around one moment."""

    def __init__(self, issuer=None):
        self.issuer = issuer or Issuer.with_keys(**KEYS)
        self.now = int(time.time())

    def token(self, key, **more):
        return self.issuer.mint(claims(**more), key)

    def scenarios(self):
        methods = [getattr(self, name) for name in sorted(vars(Table)) if name.startswith("by_")]
        return [method() for method in methods]

    def by_jti(self):
        jti = unique("jti")
        return Scenario(
            "one token by its issuer and jti",
            {"selector": {"iss": ISSUER, "jti": jti}},
            refused={
                "the token": self.token("rs", jti=jti),
                "minted later: an id has no cutoff": self.token("es", jti=jti, iat=self.now + LATER),
                "without iat": self.token("ed", jti=jti, iat=None),
            },
            accepted={
                "another jti": self.token("rs"),
                "the same jti at another issuer": self.token("es", jti=jti, iss=OTHER_ISSUER),
                "without jti": self.token("ed", jti=None),
                "another case": self.token("ed", jti=jti.upper()),
            },
        )

    def by_sid(self):
        sid = unique("sid")
        return Scenario(
            "a session by sid",
            {"selector": {"sid": sid}},
            refused={
                "RS256": self.token("rs", sid=sid),
                "ES256, no jti": self.token("es", sid=sid, jti=None),
                "EdDSA, at another issuer: iss was not named": self.token("ed", sid=sid, iss=OTHER_ISSUER),
                "refreshed later: a session has no cutoff": self.token("rs", sid=sid, iat=self.now + LATER),
            },
            accepted={"another session": self.token("rs", sid=unique("sid")), "no session": self.token("es")},
        )

    def by_sub_with_cutoff(self):
        sub, cutoff = unique("sub"), self.now - 60
        return Scenario(
            "a subject up to a cutoff",
            {"selector": {"sub": sub}, "cutoff": cutoff},
            refused={
                "issued before": self.token("rs", sub=sub, iat=cutoff - 60),
                "issued in the second of the cutoff": self.token("es", sub=sub, iat=cutoff),
                "issued within that second: the time is floored": self.token("ed", sub=sub, iat=cutoff + 0.9),
                "without iat": self.token("rs", sub=sub, iat=None),
                "iat is text": self.token("es", sub=sub, iat=str(cutoff + 30)),
                "iat is an hour in the future": self.token("ed", sub=sub, iat=self.now + 3600),
            },
            accepted={
                "issued a second later": self.token("rs", sub=sub, iat=cutoff + 1),
                "issued now": self.token("es", sub=sub, iat=self.now, jti=None),
                "another subject, issued before": self.token("ed", iat=cutoff - 60),
            },
        )

    def by_sub_now(self):
        sub = unique("Ålice")
        return Scenario(
            "a subject, cut off now",
            {"selector": {"sub": sub}},
            refused={"issued before": self.token("rs", sub=sub)},
            accepted={
                "issued later": self.token("es", sub=sub, iat=self.now + LATER),
                "decomposed: no normalisation": self.token("ed", sub=sub.replace("Å", "A\u030a")),
            },
        )

    def by_sub_and_client(self):
        sub, app = unique("sub"), unique("app")
        return Scenario(
            "one app of one subject",
            {"selector": {"sub": sub, "client_id": app}},
            refused={
                "both": self.token("rs", sub=sub, client_id=app),
                "both, no jti": self.token("es", sub=sub, client_id=app, jti=None),
            },
            accepted={
                "another app": self.token("ed", sub=sub, client_id=unique("app")),
                "another subject": self.token("rs", client_id=app),
                "no app": self.token("es", sub=sub),
                "both, issued later": self.token("ed", sub=sub, client_id=app, iat=self.now + LATER),
            },
        )

    def by_key(self):
        return Scenario(
            "a leaked key by header.kid",
            {"selector": {"header.kid": "leaked"}},
            refused={
                "signed by it": self.token("leaked"),
                "signed by it later: the thief picks iat": self.token("leaked", iat=self.now + LATER),
                "signed by it, no jti": self.token("leaked", jti=None),
            },
            accepted={
                "another key": self.token("spared"),
                "a payload claim of that name": self.token("spared", **{"header.kid": "leaked"}),
                "a payload object header": self.issuer.mint(claims() | {"header": {"kid": "leaked"}}, "spared"),
                "a payload claim kid": self.issuer.mint(claims() | {"kid": "leaked"}, "spared"),
            },
        )

    def by_tenant(self):
        tenant = unique("tenant")
        return Scenario(
            "a tenant of an issuer",
            {"selector": {"iss": ISSUER, "tenant_id": tenant}},
            refused={
                "RS256": self.token("rs", tenant_id=tenant),
                "ES256, no jti": self.token("es", tenant_id=tenant, jti=None),
            },
            accepted={
                "another tenant": self.token("ed", tenant_id=unique("tenant")),
                "the tenant of another issuer": self.token("rs", tenant_id=tenant, iss=OTHER_ISSUER),
                "nested": self.token("es", org={"tenant_id": tenant}),
            },
        )

    def by_number(self):
        number = uuid.uuid4().int % 10**9 + 10**9
        return Scenario(
            "a numeric claim",
            {"selector": {"account": str(number)}},
            refused={
                "a number": self.token("rs", account=number),
                "the same as text: types are erased": self.token("es", account=str(number)),
                "the same with a fraction of zero": self.token("ed", account=float(number)),
                "among others in an array": self.token("rs", account=["x", number]),
            },
            accepted={
                "ten times it": self.token("es", account=number * 10),
                "with a fraction": self.token("ed", account=number + 0.5),
                "with a leading zero as text": self.token("rs", account=f"0{number}"),
            },
        )

    def by_number_beyond_doubles(self):
        text = "9007199254740993"
        return Scenario(
            "a number beyond 2^53 - 1, as text",
            {"selector": {"big": text}},
            refused={"as text": self.token("rs", big=text)},
            accepted={
                "as a number: never matches": self.token("es", big=int(text)),
                "its neighbour": self.token("ed", big=int(text) - 1),
            },
        )

    def by_boolean(self):
        return Scenario(
            "a boolean claim",
            {"selector": {"impersonated": "true"}},
            refused={"true": self.token("rs", impersonated=True), "its text": self.token("es", impersonated="true")},
            accepted={
                "false": self.token("ed", impersonated=False),
                "null": self.issuer.mint(claims() | {"impersonated": None}, "rs"),
                "1": self.token("es", impersonated=1),
            },
        )

    def by_array(self):
        group = unique("group")
        return Scenario(
            "an element of an array claim",
            {"selector": {"groups": group}},
            refused={
                "the only one": self.token("rs", groups=[group]),
                "the last of several": self.token("es", groups=["a", 7, True, group]),
                "alone, not in an array": self.token("ed", groups=group),
                "beside what never matches": self.token("rs", groups=[None, {"a": 1}, ["b"], group]),
            },
            accepted={
                "others": self.token("es", groups=["a", "b"]),
                "none": self.token("ed", groups=[]),
                "in an array within": self.token("rs", groups=[[group]]),
                "in an object within": self.token("es", groups=[{"name": group}]),
            },
        )

    def by_nested_confirmation(self):
        thumbprint = unique("jkt")
        return Scenario(
            "a proof key by cnf.jkt",
            {"selector": {"cnf.jkt": thumbprint}},
            refused={
                "nested": self.token("rs", cnf={"jkt": thumbprint}),
                "nested, issued later: a key has no cutoff": self.token("es", cnf={"jkt": thumbprint}, iat=self.now + LATER),
                "a literal name with a dot": self.token("ed", **{"cnf.jkt": thumbprint}),
            },
            accepted={
                "another key": self.token("rs", cnf={"jkt": unique("jkt")}),
                "not nested": self.token("es", jkt=thumbprint),
                "too deep": self.token("ed", cnf={"jkt": {"jkt": thumbprint}}),
            },
        )

    def by_nested_claim(self):
        tenant = unique("tenant")
        return Scenario(
            "a nested claim",
            {"selector": {"realm.tenant": tenant}},
            refused={
                "nested": self.token("rs", realm={"tenant": tenant, "name": "x"}),
                "nested in an array's place": self.token("es", realm={"tenant": ["a", tenant]}),
            },
            accepted={
                "issued later": self.token("ed", realm={"tenant": tenant}, iat=self.now + LATER),
                "another": self.token("rs", realm={"tenant": unique("tenant")}),
                "at the top": self.token("es", tenant=tenant),
            },
        )

    def by_claim_named_by_a_url(self):
        role, name = unique("role"), "https://claims.example/role"
        return Scenario(
            "a claim whose name is a URL",
            {"selector": {name: role}},
            refused={"the claim": self.token("rs", **{name: role})},
            accepted={"another": self.token("es", **{name: unique("role")}), "role": self.token("ed", role=role)},
        )

    def by_auth_time(self):
        sub, login = unique("sub"), self.now - 600
        return Scenario(
            "logins up to a cutoff",
            {"selector": {"sub": sub}, "cutoff": login, "cutoff_on": "auth_time"},
            refused={
                "refreshed just now from an old login": self.token("rs", sub=sub, iat=self.now, auth_time=login - 60),
                "in the second of the cutoff": self.token("es", sub=sub, auth_time=login),
                "without auth_time": self.token("ed", sub=sub),
            },
            accepted={
                "a login since": self.token("rs", sub=sub, auth_time=login + 1),
                "a login since, issued before": self.token("es", sub=sub, iat=login - 60, auth_time=login + 1),
                "another subject": self.token("ed", auth_time=login - 60),
            },
        )

    def by_subject_except_a_session(self):
        sub, kept = unique("sub"), unique("sid")
        return Scenario(
            "a subject everywhere except one session",
            {"selector": {"sub": sub}, "exceptions": [{"sid": kept}]},
            refused={
                "another session": self.token("rs", sub=sub, sid=unique("sid")),
                "no session": self.token("es", sub=sub),
                "no session, no jti, no iat": self.token("ed", sub=sub, jti=None, iat=None),
            },
            accepted={
                "the session": self.token("rs", sub=sub, sid=kept),
                "the session, without iat": self.token("es", sub=sub, sid=kept, iat=None),
                "another session, issued later": self.token("ed", sub=sub, sid=unique("sid"), iat=self.now + LATER),
                "the session of another subject": self.token("rs", sid=kept),
            },
        )

    def by_token_with_jti(self):
        jti = unique("jti")
        token = self.token("rs", jti=jti)
        return Scenario(
            "a handed-in token with iss and jti",
            {"token": token},
            refused={"the token": token, "another of the same iss and jti": self.token("es", jti=jti, scope="x")},
            accepted={"another": self.token("ed")},
        )

    def by_token_without_jti(self):
        payload = claims(jti=None)
        token = self.issuer.mint(payload, "es")
        again = self.issuer.mint(payload, "es")
        assert token.rsplit(".", 1)[0] == again.rsplit(".", 1)[0] and token != again
        return Scenario(
            "a handed-in token without jti",
            {"token": token},
            refused={"the token": token, "its signing input signed again": again},
            accepted={
                "the same claims under another key": self.issuer.mint(payload, "ed"),
                "one claim more": self.issuer.mint({**payload, "scope": "x"}, "es"),
                "a payload claim token_sha256": self.token("rs", token_sha256=signing_input_sha256(token)),
            },
        )

    def by_signing_input_hash(self):
        token = self.token("rs", jti=None)
        return Scenario(
            "the hash of a signing input",
            {"selector": {"token_sha256": signing_input_sha256(token)}},
            refused={"the token": token},
            accepted={"another": self.token("rs", jti=None)},
        )
