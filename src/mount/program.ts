/** What somebody is about to run in an image. */
export interface Program {
  /** The command and its arguments. */
  args: readonly string[];
  /** Where commands without a slash are looked for. */
  path: readonly string[];
  /** Where relative paths begin. */
  cwd: string;
}
