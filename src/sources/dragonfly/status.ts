/** gRPC's numbers. */
export const STATUS = {
  cancelled: 1,
  unknown: 2,
  'deadline exceeded': 4,
  'not found': 5,
  'resource exhausted': 8,
  aborted: 10,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
} as const;
