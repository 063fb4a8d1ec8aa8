/** EdgeConfig as text that people and tests compare: keys sorted at every depth, two spaces, a last line break. */

import type { EdgeConfig } from "../../edge-config/config.ts";
import { compareText } from "./order.ts";

export function printConfig(config: EdgeConfig): string {
  return `${JSON.stringify(sortKeys(config), undefined, 2)}\n`;
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => compareText(a, b))
      .map(([key, item]) => [key, sortKeys(item)]),
  );
}
