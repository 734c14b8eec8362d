/** What the sources tell a log; pino's loggers fit. Never given secrets. */
export interface Log {
  debug(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export const SILENT: Log = { debug() {}, warn() {} };
