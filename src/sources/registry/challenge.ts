/** One challenge of a `WWW-Authenticate` header (RFC 9110 §11.6.1). Names in lower case. */
export interface Challenge {
  scheme: string;
  parameters: Record<string, string>;
}

const SKIP = /[ \t,]*/y;
const TOKEN = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
const PARAMETER = /([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))/y;
/** An alternative to parameters that no scheme we speak uses. */
const TOKEN68 = /[ \t]+[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))/y;

/**
 * Reads `WWW-Authenticate` values. One value may hold several challenges, each with several parameters, all joined by
 * commas. Reading stops at the first nonsense; what was read until then counts.
 */
export function parseChallenges(values: readonly string[]): Challenge[] {
  return values.flatMap(parseValue);
}

function parseValue(text: string): Challenge[] {
  const challenges: Challenge[] = [];
  let at = 0;
  const take = (pattern: RegExp) => {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match) at = pattern.lastIndex;
    return match;
  };
  while (at < text.length) {
    take(SKIP);
    const current = challenges.at(-1);
    const parameter = current && take(PARAMETER);
    if (parameter) {
      const value = parameter[2] === undefined ? parameter[3] : parameter[2].replace(/\\(.)/g, '$1');
      current.parameters[parameter[1].toLowerCase()] ??= value;
      continue;
    }
    const scheme = take(TOKEN);
    if (!scheme) break;
    challenges.push({ scheme: scheme[0].toLowerCase(), parameters: Object.create(null) });
    take(TOKEN68);
  }
  return challenges;
}
