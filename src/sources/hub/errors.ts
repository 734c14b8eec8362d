import { type PlaceErrors, placeErrors } from '../http/errors.ts';

/**
 * Errors of hubs, with what they say themselves: Hugging Face in headers (`X-Error-Code`, `X-Error-Message`), others in JSON.
 * @param login how people log in; @param secret the token that was sent last: a hub may repeat it
 */
export function hubErrors(login: string, secret: () => string | undefined): PlaceErrors {
  return placeErrors(
    {
      denied: () =>
        `If the name is right, the repository is private, or its conditions have to be accepted on its page: ${login}.`,
      limited: `The hub limits requests: wait, or log in: ${login}.`,
      trust: 'Add its CA to the trusted certificates of this machine.',
      plain: 'If the hub speaks plain HTTP, name it with `http://` in `endpoints` of [hub].',
    },
    (body, response) => {
      const said = [response.header('x-error-code'), response.header('x-error-message') ?? inBody(body)]
        .filter((word) => word !== undefined && word !== '')
        .join(': ');
      const token = secret();
      return token === undefined ? said : said.replaceAll(token, '[token]');
    },
  );
}

function inBody(body: string): string | undefined {
  try {
    const { error, Message, message } = JSON.parse(body) as Record<string, unknown>;
    return [error, Message, message].find((word) => typeof word === 'string');
  } catch {
    // Text, or a page of HTML that nobody wants to read in a terminal.
    return body.length <= 200 && !body.includes('<') ? body.trim() : undefined;
  }
}
