import { NymphError } from '../errors.ts';
import { FILE_KINDS, isPattern } from '../formats/files/subset.ts';
import { nearest } from './nearest.ts';

const MOST_WORDS = 64;

/**
 * Reads what people write of the files of a model that they want: kinds and patterns, with commas between.
 * @returns each once, in order
 * @throws NymphError `usage` for what is neither, with the kind that was meant
 */
export function parseSubset(text: string): string[] {
  const words = new Set(text.split(',').map((word) => word.trim()));
  if (words.size > MOST_WORDS) throw new NymphError('usage', `a subset has more than ${MOST_WORDS} words`);
  for (const word of words) {
    if (isPattern(word) || (FILE_KINDS as readonly string[]).includes(word)) continue;
    const meant = nearest(word, FILE_KINDS);
    throw new NymphError('usage', `${JSON.stringify(word)} is no kind of file`, {
      hint: `${meant === undefined ? '' : `Is \`${meant}\` meant? `}Kinds are ${FILE_KINDS.join(', ')}; a pattern has one of * ? [ . /`,
    });
  }
  return [...words].sort();
}
