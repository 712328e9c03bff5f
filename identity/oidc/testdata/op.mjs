// An OpenID provider for the tests, of the npm package oidc-provider. Its users sign in
// with any password. The callback URL and the client's secret come in the environment.
// It prints its issuer as a line of JSON, and ends when its input does.
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const people = {
  alice: { email: 'alice@acme.test', email_verified: true, name: 'Alice Adams', preferred_username: 'alice', groups: ['platform', 'admins'] },
  bob: { email: 'bob@acme.test', email_verified: false, name: 'Bob Brown', preferred_username: 'bob', groups: [] },
};
const server = createServer((request, response) => handler(request, response));
let handler = (request, response) => response.end();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const op = new Provider(issuer, {
    clients: [{
      client_id: 'ipuka', client_secret: process.env.OP_SECRET, redirect_uris: [process.env.OP_CALLBACK],
      grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
      id_token_signed_response_alg: process.env.OP_ALG || 'RS256',
    }],
    pkce: { required: () => true },
    scopes: ['openid', 'offline_access', 'profile', 'email', 'groups'],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'preferred_username'], groups: ['groups'] },
    conformIdTokenClaims: process.env.OP_LEAN === '1',
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'PS256', 'ES256', 'EdDSA'] },
    features: { devInteractions: { enabled: true }, revocation: { enabled: true } },
    cookies: { keys: ['of the tests'] },
    async findAccount(context, sub) {
      return { accountId: sub, claims: async () => ({ sub, ...people[sub] }) };
    },
  });
  handler = op.callback();
  process.stdout.write(JSON.stringify({ issuer }) + '\n');
});
process.stdin.resume().on('end', () => process.exit(0));
