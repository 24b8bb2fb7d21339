// An OpenID provider over HTTPS for the tests: oidc-provider, which makes JWT access tokens by client_credentials.
//
//   node issuer.mjs FOLDER-WITH-node_modules PORT CERTIFICATE KEY
//
// Beside the provider's own paths it has some by which a test turns it: POST /test/rotate (a new signing key, the old one stays
// published), /test/withdraw (only the newest key is published), /test/slow?ms=N (each answer takes so long), GET /test/asked
// (how often the keys were fetched).
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [folder, port, certificate, key] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const { default: Provider } = await import(pathToFileURL(require.resolve('oidc-provider')).href);
const issuer = `https://localhost:${port}`;

function newKey() {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'ES256' };
}

function client(client_id, client_secret, scope) {
  return {
    client_id, client_secret, scope,
    grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
    id_token_signed_response_alg: 'ES256',
  };
}

function provider(keys) {
  return new Provider(issuer, {
    jwks: { keys },
    scopes: ['orders.read', 'rescind.check', 'rescind.admin'],
    clients: [client('shop', 'shop-secret', 'orders.read'), client('operator', 'operator-secret', 'rescind.check rescind.admin')],
    cookies: { keys: ['not used'] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'https://orders.example',
        getResourceServerInfo: (_, resource) => ({
          scope: 'orders.read rescind.check rescind.admin',
          audience: resource,
          accessTokenTTL: 600,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  });
}

let keys = [newKey()];
let answer = provider(keys).callback();
let milliseconds = 0;
let asked = 0;

const turns = {
  '/test/rotate': () => { keys = [newKey(), ...keys]; answer = provider(keys).callback(); },
  '/test/withdraw': () => { keys = keys.slice(0, 1); answer = provider(keys).callback(); },
  '/test/slow': (url) => { milliseconds = Number(url.searchParams.get('ms')); },
  '/test/asked': () => {},
};

createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, (request, response) => {
  const url = new URL(request.url, issuer);
  if (url.pathname in turns) {
    turns[url.pathname](url);
    response.end(JSON.stringify({ asked }));
    return;
  }
  if (url.pathname === '/jwks') asked += 1;
  if (milliseconds > 0) setTimeout(() => answer(request, response), milliseconds);
  else answer(request, response);
}).listen(Number(port), '127.0.0.1', () => console.log('ready'));
