import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { SETTINGS, type Setting } from '../../src/daemon/config-schema.ts';

const PAGE = new URL('../../docs/configuration.md', import.meta.url);
const BEGIN = '<!-- settings: written by UPDATE_DOCS=1 node --test test/unit/config-docs.test.ts -->';
const END = '<!-- end of settings -->';

function settingTables(): string {
  const parts: string[] = [];
  for (const [section, rows] of Object.entries(SETTINGS)) {
    parts.push(section === 'top' ? '## Above all sections' : `## \`[${section}]\``, '');
    parts.push('| key | type | default | meaning |', '|---|---|---|---|');
    for (const [key, row] of Object.entries(rows as Record<string, Setting<unknown>>))
      parts.push(`| \`${key}\` | ${row.type} | ${row.defaultText} | ${row.doc} |`);
    parts.push('');
  }
  return parts.join('\n');
}

test('docs/configuration.md has every setting as the schema has it', async () => {
  const page = await readFile(PAGE, 'utf8');
  const begin = page.indexOf(BEGIN);
  const end = page.indexOf(END);
  assert.ok(begin >= 0 && end > begin, 'the marks of the table are missing');
  const expected = `${page.slice(0, begin)}${BEGIN}\n\n${settingTables()}\n${page.slice(end)}`;
  if (process.env.UPDATE_DOCS === '1') await writeFile(PAGE, expected);
  else assert.equal(page, expected, 'run UPDATE_DOCS=1 node --test test/unit/config-docs.test.ts');
});

test('every setting has a meaning, and its default is one that the file could have', () => {
  for (const rows of Object.values(SETTINGS)) {
    for (const [key, row] of Object.entries(rows as Record<string, Setting<unknown>>)) {
      assert.match(row.doc, /\S\.$/, key);
      if (row.default === undefined) continue;
      const value = typeof row.default === 'function' ? row.default({ root: '/r', address: '/a/b' }) : row.default;
      const isTime = row.type.startsWith('duration');
      assert.deepEqual(row.read(isTime ? `${value}ms` : value), { value }, key);
    }
  }
});
