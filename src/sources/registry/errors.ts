import { placeErrors } from '../http/errors.ts';

/** Errors of registries, with the code and message that they gave (distribution-spec "Error Codes"). */
export const REGISTRY_ERRORS = placeErrors(
  {
    denied: (host) => `Log in to ${host}, or check that the image may be read.`,
    limited: 'The registry limits requests: log in, or set up a mirror in hosts.toml.',
    trust: 'Name the CA in hosts.toml (`ca = "…"`), or add it to the trusted certificates of this machine.',
    plain: 'If it is a plain HTTP registry, list it in `plain_http` or as `http://…` in hosts.toml.',
  },
  (body) => {
    const { errors } = JSON.parse(body) as { errors?: { code?: unknown; message?: unknown }[] };
    const { code, message } = errors?.[0] ?? {};
    return [code, message].filter((word) => typeof word === 'string' && word !== '').join(': ');
  },
);
