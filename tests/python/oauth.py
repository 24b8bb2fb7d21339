"""An OAuth client for the tests: Authlib on requests. Does one thing that it is told as JSON, and says in JSON what came of it.

    python oauth.py '{"do": "introspect", "url": "https://…", "client": "api server", "secret": "rsc_…", "token": "…"}'
"""

import json
import sys

import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata


def session(ask):
    client = OAuth2Session(ask["client"], ask["secret"], scope=ask.get("scope"), revocation_endpoint_auth_method="client_secret_basic")
    # Else REQUESTS_CA_BUNDLE would say whom to trust.
    client.trust_env = False
    client.verify = ask["ca"]
    return client


def token(ask):
    got = session(ask).fetch_token(ask["url"], grant_type="client_credentials", resource=ask["resource"])
    return {"token": got["access_token"]}


def introspect(ask):
    more = {"body": "class=" + ask["class"]} if "class" in ask else {}
    return answer(session(ask).introspect_token(ask["url"], token=ask["token"], token_type_hint="access_token", **more))


def revoke(ask):
    return answer(session(ask).revoke_token(ask["url"], token=ask["token"], token_type_hint="access_token"))


def metadata(ask):
    got = requests.get(ask["url"], verify=ask["ca"], timeout=20)
    document = AuthorizationServerMetadata(got.json())
    document.validate_issuer()
    document.validate_introspection_endpoint()
    document.validate_introspection_endpoint_auth_methods_supported()
    document.validate_revocation_endpoint()
    document.validate_revocation_endpoint_auth_methods_supported()
    document.validate_response_types_supported()
    document.validate_grant_types_supported()
    return answer(got)


def check(ask):
    headers = {"Authorization": "Bearer " + ask["bearer"]}
    return answer(requests.post(ask["url"], json={"token": ask["token"]}, headers=headers, verify=ask["ca"], timeout=20))


def turn(ask):
    return answer(requests.post(ask["url"], verify=ask["ca"], timeout=20))


def answer(response):
    try:
        body = response.json()
    except ValueError:
        body = response.text
    return {"status": response.status_code, "body": body, "seconds": response.elapsed.total_seconds()}


def main():
    ask = json.loads(sys.argv[1])
    doing = {"token": token, "introspect": introspect, "revoke": revoke, "metadata": metadata, "check": check, "turn": turn}
    print(json.dumps(doing[ask["do"]](ask)))


main()
