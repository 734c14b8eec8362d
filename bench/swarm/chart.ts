/** One line of a chart: its points, ascending by x. */
export interface Line {
  name: string;
  points: { x: number; y: number }[];
}

const WIDTH = 640;
const HEIGHT = 400;
const MARGIN = { left: 80, right: 170, top: 40, bottom: 50 };
const COLOURS = ['#4269d0', '#efb118', '#ff725c', '#6cc5b0', '#9c6b4e'];

/** An SVG with both axes logarithmic. @param label of a power of ten on the axis of y */
export function chart(title: string, x: string, lines: readonly Line[], label: (value: number) => string): string {
  const points = lines.flatMap((line) => line.points);
  const [left, right] = span(points.map((point) => point.x));
  const [bottom, top] = span(points.map((point) => point.y));
  const at = (point: { x: number; y: number }) => {
    const px = MARGIN.left + ((Math.log10(point.x) - left) / (right - left)) * (WIDTH - MARGIN.left - MARGIN.right);
    const py =
      HEIGHT -
      MARGIN.bottom -
      ((Math.log10(point.y) - bottom) / (top - bottom)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
    return { px, py };
  };
  const parts = [`<text x="${MARGIN.left}" y="22" font-weight="bold">${title}</text>`];
  for (let power = bottom; power <= top; power++) {
    const { py } = at({ x: 10 ** left, y: 10 ** power });
    parts.push(`<line x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${py}" y2="${py}" stroke="#ddd"/>`);
    parts.push(`<text x="${MARGIN.left - 8}" y="${py + 4}" text-anchor="end">${label(10 ** power)}</text>`);
  }
  for (let power = left; power <= right; power++) {
    const { px } = at({ x: 10 ** power, y: 10 ** bottom });
    parts.push(
      `<text x="${px}" y="${HEIGHT - MARGIN.bottom + 20}" text-anchor="middle">${(10 ** power).toLocaleString('en-US')}</text>`,
    );
  }
  parts.push(
    `<text x="${(MARGIN.left + WIDTH - MARGIN.right) / 2}" y="${HEIGHT - 10}" text-anchor="middle">${x}</text>`,
  );
  for (const [i, { name, points: list }] of lines.entries()) {
    const colour = COLOURS[i % COLOURS.length];
    const path = list.map(at).map(({ px, py }) => `${px.toFixed(1)},${py.toFixed(1)}`);
    parts.push(`<polyline points="${path.join(' ')}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    parts.push(
      `<text x="${WIDTH - MARGIN.right + 10}" y="${MARGIN.top + 10 + 20 * i}" fill="${colour}">${name}</text>`,
    );
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>${parts.join('')}</svg>\n`;
}

/** The powers of ten around values. */
function span(values: number[]): [number, number] {
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.ceil(Math.log10(Math.max(...values)));
  return [low, high === low ? high + 1 : high];
}
