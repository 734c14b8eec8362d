import { TAR_BLOCK_SIZE } from '../tar-header.ts';

/** A GNU tar header (owner root, time 0), so that the same content gives the same bytes. */
export function tarHeader(name: string, size: number, mode = 0, type: '0' | '5' = '0'): Buffer {
  const header = Buffer.alloc(TAR_BLOCK_SIZE);
  header.write(name, 0, 100, 'latin1');
  const octal = (value: number, at: number, length: number): void => {
    header.write(value.toString(8).padStart(length - 1, '0'), at, length - 1, 'latin1');
  };
  octal(mode, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(0, 136, 12);
  header.write(type, 156, 1, 'latin1');
  header.write('ustar  \0', 257, 8, 'latin1');
  header.fill(' ', 148, 156);
  let sum = 0;
  for (const byte of header) sum += byte;
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 8, 'latin1');
  return header;
}

/** A tar of directories (content `null`) and files, in the given order. Modes 0755 and 0444. */
export function tarOf(members: readonly { name: string; content: Uint8Array | null }[]): Buffer {
  const parts: Uint8Array[] = [];
  for (const { name, content } of members) {
    parts.push(tarHeader(name, content?.length ?? 0, content ? 0o444 : 0o755, content ? '0' : '5'));
    if (!content) continue;
    parts.push(content, Buffer.alloc(-content.length & (TAR_BLOCK_SIZE - 1)));
  }
  return Buffer.concat([...parts, Buffer.alloc(2 * TAR_BLOCK_SIZE)]);
}
