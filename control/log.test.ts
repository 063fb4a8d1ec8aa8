import { expect, test } from "vitest";
import { createLog } from "./log.ts";

function lines(format: "json" | "pretty"): readonly string[] {
  const written: string[] = [];
  const log = createLog(format, (line) => written.push(line));
  log.info("published", { generation: 7, cutMs: 1.5, reason: undefined });
  log.warning('the watch is "gone"', { kind: "Ingress", reason: "line\nbreak" });
  return written;
}

test("JSON: one object a line, whatever is in it", () => {
  const [first, second] = lines("json").map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(first).toMatchObject({ level: "info", message: "published", generation: 7, cutMs: 1.5 });
  expect(second).toMatchObject({ level: "warning", message: 'the watch is "gone"', reason: "line\nbreak" });
  for (const one of [first, second]) expect(Date.parse(String(one?.time))).not.toBeNaN();
});

test("pretty: one line for a person, too", () => {
  const [first, second] = lines("pretty").map((line) => line.slice(line.indexOf(" ") + 1));
  expect(first).toBe("published generation=7 cutMs=1.5");
  expect(second).toBe('warning: the watch is "gone" kind="Ingress" reason="line\\nbreak"');
});
