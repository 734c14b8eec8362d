import assert from 'node:assert/strict';
import { test } from 'node:test';
import { signOss } from '../../src/sources/object-storage/signature-oss.ts';
import { signV4 } from '../../src/sources/object-storage/signature-v4.ts';

// The keys and the requests of "Signature Calculations for the Authorization Header" in Amazon's S3 API reference.
const AMAZON = { id: 'AKIAIOSFODNN7EXAMPLE', secret: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' };
const TIME = new Date('2013-05-24T00:00:00Z');

function signature(path: string, headers: Record<string, string> = {}): string {
  const url = new URL(`https://examplebucket.s3.amazonaws.com${path}`);
  const { authorization } = signV4({
    method: 'GET',
    url,
    headers,
    keys: AMAZON,
    region: 'us-east-1',
    service: 's3',
    time: TIME,
  });
  return authorization;
}

test('signature version 4 is that of Amazon’s examples', () => {
  assert.equal(
    signature('/test.txt', { range: 'bytes=0-9' }),
    'AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
  );
  assert.match(signature('/?lifecycle'), /Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543$/);
  assert.match(
    signature('/?max-keys=2&prefix=J'),
    /Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7$/,
  );
});

test('a session token is sent and signed', () => {
  const headers = signV4({
    method: 'GET',
    url: new URL('http://storage.test/bucket/key'),
    headers: {},
    keys: { ...AMAZON, token: 'a token' },
    region: 'us-east-1',
    service: 's3',
    time: TIME,
  });
  assert.equal(headers['x-amz-security-token'], 'a token');
  assert.match(headers.authorization, /SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,/);
});

test('OSS’s signature version 1 is that of Alibaba Cloud’s example', () => {
  const { authorization, date } = signOss({
    method: 'PUT',
    resource: '/oss-example/nelson',
    headers: {
      'content-md5': 'ODBGOERFMDMzQTczRUY3NUE3NzA5QzdFNUYzMDQxNEM=',
      'content-type': 'text/html',
      'x-oss-meta-author': 'foo@bar.com',
      'x-oss-magic': 'abracadabra',
    },
    keys: { id: '44CF9590006BF252F707', secret: 'OtxrzxIsfpFjA7SwPzILwy8Bw21TLhquhboDYROV' },
    time: new Date('2005-11-17T18:49:58Z'),
  });
  assert.equal(date, 'Thu, 17 Nov 2005 18:49:58 GMT');
  assert.equal(authorization, 'OSS 44CF9590006BF252F707:26NBxoKdsyly4EDv6inkoDft/yA=');
});
