/** What object storages (S3, OSS) answer: ranges, redirects, refusals in XML. */
import { openBucket } from '../../../src/sources/object-storage/object.ts';
import { answersIn, scriptedNetwork, skipPauses } from '../scripted-network.ts';
import { ensure, type Target } from '../target.ts';

skipPauses();

const CONTENT = '0123456789abcdefghijklmnopqrstuvwxyz';
const [OFFSET, LENGTH] = [10, 20];
const PART = `206 | content-range: bytes 10-29/36\n${CONTENT.slice(10, 30)}`;
const refusal = (status: number, code: string, more = '', headers = '') =>
  `${status} | date: Wed, 21 Oct 2026 07:28:00 GMT${headers}\n<Error><Code>${code}</Code><Message>m</Message>${more}</Error>`;

export const target: Target = {
  name: 'storage',
  text: true,
  seeds: () =>
    [
      ['s3', PART],
      ['oss', PART],
      ['s3', refusal(400, 'AuthorizationHeaderMalformed', '<Region>eu-west-1</Region>'), PART],
      [
        's3',
        refusal(
          301,
          'PermanentRedirect',
          '<Endpoint>b.s3.eu-west-1.amazonaws.com</Endpoint>',
          ' | x-amz-bucket-region: eu-west-1',
        ),
        PART,
      ],
      ['s3', refusal(403, 'RequestTimeTooSkewed'), PART],
      ['oss', refusal(403, 'SecondLevelDomainForbidden'), PART],
      ['s3', refusal(403, 'ExpiredToken')],
      ['s3', refusal(404, 'NoSuchBucket')],
      ['s3', '307 | location: https://b.s3.us-east-2.amazonaws.com/k\n', PART],
      ['s3', '503 | retry-after: 3\n<Error><Code>SlowDown</Code></Error>', '0', PART],
    ].map((answers) => Buffer.from(answers.join('\n--\n'), 'latin1')),
  errors: ['unsupported', 'denied', 'source', 'not-found', 'timeout'],
  limit: 8 << 10,
  words: [
    ...['\n--\n', '\n', ' | ', '200', '206', '206!', '0', '301', '307', '400', '403', '404', '416', '503', 's3', 'oss'],
    ...[
      '<Code>',
      '</Code>',
      '<Message>',
      '</Message>',
      '<Region>',
      '</Region>',
      '<Endpoint>',
      '</Endpoint>',
      'x-amz-bucket-region: ',
    ],
    ...[
      'content-range: bytes ',
      '10-29/36',
      'location: ',
      'https://a.amazonaws.com/',
      'date: ',
      'Wed, 21 Oct 1015 07:28:00 GMT',
      'Thu, 01 Jan 275760 00:00:00 GMT',
      '[::1]',
      'RequestTimeTooSkewed',
    ],
  ],
  async run(input) {
    const [question, ...answers] = answersIn(input);
    const { network, requests } = scriptedNetwork(answers, 'https://storage.example');
    const kind = question === 'oss' ? 'oss' : 's3';
    const bucket = openBucket(
      network,
      {
        kind,
        scheme: 'https',
        endpoint: 'storage.example',
        name: 'bucket',
        prefix: 'p/',
        keys: { id: 'id', secret: 'secret' },
      },
      async () => [{ url: new URL('https://storage.example'), upstream: true }],
      '/etc/nydusd.json',
    );
    let length = 0;
    for await (const piece of await bucket
      .open('key', 'blob key', undefined)
      .read(OFFSET, LENGTH, new AbortController().signal))
      length += piece.length;
    ensure(length === LENGTH, `${length} bytes`);
    return `${kind} ${requests()}`;
  },
};
