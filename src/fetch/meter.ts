import { type Clock, SYSTEM_CLOCK } from './clock.ts';

/** How fast bytes come by one way while any are on their way, lately. */
export interface Meter {
  /** A transfer begins; at its end what is returned must be called once. */
  begin(): () => void;
  add(bytes: number): void;
  /** Bytes a millisecond over all transfers together; `undefined` before enough was seen to tell. */
  rate(): number | undefined;
  /** Transfers under way. */
  readonly active: number;
}

/** What is older than this much transfer time counts less than half, ms. */
const MEMORY = 500;
/** Below this nothing is known, bytes. */
const ENOUGH = 1 << 20;

export function createMeter({ now }: Pick<Clock, 'now'> = SYSTEM_CLOCK): Meter {
  let active = 0;
  let since = 0;
  let bytes = 0;
  let time = 0;
  let seen = 0;

  /** Takes the time since the last call into account. */
  function advance(): void {
    const at = now();
    if (active > 0) {
      const passed = at - since;
      const kept = 2 ** (-passed / MEMORY);
      bytes *= kept;
      time = time * kept + passed;
    }
    since = at;
  }

  return {
    begin() {
      advance();
      active++;
      let ended = false;
      return () => {
        if (ended) return;
        ended = true;
        advance();
        active--;
      };
    },
    add(count) {
      advance();
      bytes += count;
      seen += count;
    },
    rate() {
      advance();
      return seen < ENOUGH || time <= 0 ? undefined : bytes / time;
    },
    get active() {
      return active;
    },
  };
}
