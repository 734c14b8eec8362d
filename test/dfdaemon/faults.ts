/**
 * What a stand-in for dfdaemon does wrong. All may be changed while it runs. A fault with `times` is used up by so many
 * downloads; without it, it lasts.
 */
export interface DfdaemonFaults {
  /** The call ends with this gRPC status, before anything or after so many pieces. */
  status?: Times & { code: number; details: string; after?: number };
  /** The origin's answer is passed on, as a real daemon does: JSON in a trailer. */
  origin?: Times & { status: number; header?: Record<string, string>; after?: number };
  /** Nothing comes any more after so many pieces; with -1 not even the start. */
  stall?: Times & { after: number };
  /** A bit of the piece of this place in the order of sending is wrong. */
  flip?: Times & { piece: number };
  /** One byte less than the piece says. */
  short?: Times & { piece: number };
  /** The start names a size that is so much more than the object has. */
  longer?: Times & { by: number };
  /** So many pieces fewer than there are, and a normal end. */
  missing?: Times & { pieces: number };
  /** A piece that lies outside of the object. */
  outside?: Times & { piece: number };
  /** A piece that begins a byte too early. */
  overlap?: Times & { piece: number };
  /** All pieces twice. */
  twice?: Times;
}

export interface Times {
  times?: number;
}

/** Takes one use of a fault; `undefined` if it is not set, or used up. */
export function use<T extends Times>(fault: T | undefined): T | undefined {
  if (fault === undefined || fault.times === undefined) return fault;
  return fault.times-- > 0 ? fault : undefined;
}
