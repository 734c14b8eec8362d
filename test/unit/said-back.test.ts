import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withoutSecrets } from '../../src/sources/http/said-back.ts';

const url = new URL('https://r.io/v2/app?sig=query-secret&scope=repository:app:pull');
const basic = `Basic ${Buffer.from('me:pass word').toString('base64')}`;

test('what a request told in confidence is taken out of what its answer says', () => {
  const request = {
    url,
    headers: { accept: 'application/json', authorization: basic, 'x-key': ['first-key', 'other-key'] },
  };
  const said = `no ${basic}, me:pass word, pass word, first-key or other-key, query-secret; application/json of repository:app:pull`;
  assert.equal(withoutSecrets(said, request), 'no …, …, …, … or …, …; application/json of repository:app:pull');
});

test('of a form, and of what a proxy has added', () => {
  const body = new URLSearchParams({ grant_type: 'password', username: 'me', password: 'hunter22' }).toString();
  const request = { url: new URL('https://r.io/token'), headers: {}, body };
  assert.equal(
    withoutSecrets('password of me is not hunter22; "proxy-authorization": "Basic bWU6cGFzcw=="', request),
    'password of me is not …; "proxy-authorization": "Basic …"',
  );
  assert.equal(withoutSecrets('authentication by token is needed', request), 'authentication by token is needed');
});
