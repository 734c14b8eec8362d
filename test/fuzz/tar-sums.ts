/** Makes the checksums of tar headers right, wherever one may stand; and no others, as a search wants wrong ones, too. */
export function sumTarHeaders(input: Buffer): void {
  for (let at = 0; at + 512 <= input.length; at += 512) {
    if (input.toString('latin1', at + 257, at + 262) !== 'ustar') continue;
    input.fill(' ', at + 148, at + 156);
    let sum = 0;
    for (let i = at; i < at + 512; i++) sum += input[i];
    input.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148, 8, 'latin1');
  }
}
