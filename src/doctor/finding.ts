/** What a check has found. */
export interface Finding {
  /** What was looked at: `kernel`, `containerd`. */
  check: string;
  /** `problem`: something that was set up does not work. `warning`: it works less well, or not for everybody. */
  level: 'ok' | 'warning' | 'problem';
  /** What is so. */
  says: string;
  /** What to do, as a full sentence; none if all is well. */
  todo?: string;
}

/** Findings of one check. */
export function findings(check: string) {
  const make =
    (level: Finding['level']) =>
    (says: string, todo?: string): Finding => ({ check, level, says, ...(todo ? { todo } : {}) });
  return { ok: make('ok'), warning: make('warning'), problem: make('problem') };
}
