/** Structured log: one line an event, JSON for machines or text for people. */

export type LogLevel = "info" | "warning" | "error";
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Log {
  readonly info: (message: string, fields?: LogFields) => void;
  readonly warning: (message: string, fields?: LogFields) => void;
  readonly error: (message: string, fields?: LogFields) => void;
}

export function createLog(format: "json" | "pretty", write: (line: string) => void): Log {
  const line = (level: LogLevel, message: string, fields: LogFields = {}): void => {
    const time = new Date().toISOString();
    if (format === "json") write(JSON.stringify({ time, level, message, ...fields }));
    else {
      const rest = Object.entries(fields).filter(([, value]) => value !== undefined);
      const tail = rest
        .map(([name, value]) => ` ${name}=${typeof value === "string" ? JSON.stringify(value) : value}`)
        .join("");
      write(`${time} ${level === "info" ? "" : `${level}: `}${message}${tail}`);
    }
  };
  return {
    info: (message, fields) => line("info", message, fields),
    warning: (message, fields) => line("warning", message, fields),
    error: (message, fields) => line("error", message, fields),
  };
}
