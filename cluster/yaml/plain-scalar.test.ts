import { describe, expect, test } from "vitest";
import { keyOfPlainScalar, resolvePlainScalar } from "./plain-scalar.ts";

/** What goyaml.v2 (kubectl's parser) makes of unquoted words. */
describe("resolvePlainScalar", () => {
  test.each<[string, unknown]>([
    ["true", true],
    ["True", true],
    ["TRUE", true],
    ["yes", true],
    ["on", true],
    ["y", true],
    ["Y", true],
    ["false", false],
    ["off", false],
    ["No", false],
    ["n", false],
    ["tRUE", "tRUE"],
    ["onn", "onn"],
    ["", null],
    ["~", null],
    ["null", null],
    ["Null", null],
    ["none", "none"],
    ["0", 0],
    ["-0", -0],
    ["80", 80],
    ["+80", 80],
    ["-1", -1],
    ["0777", 511],
    ["-0777", -511],
    ["0o17", 15],
    ["0x1F", 31],
    ["0b101", 5],
    ["0888", 888],
    ["1_000", 1000],
    ["1.5", 1.5],
    [".5", 0.5],
    ["5.", 5],
    ["1e3", 1000],
    ["1.2.3.4", "1.2.3.4"],
    ["10.0.0.0/8", "10.0.0.0/8"],
    ["12:30", "12:30"],
    ["190:20:30", "190:20:30"],
    ["2026-11-23", "2026-11-23"],
    ["2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z"],
    ["1.2.3", "1.2.3"],
    ["0x", "0x"],
    ["-", "-"],
    ["+", "+"],
    [".", "."],
    ["--", "--"],
    ["1a", "1a"],
    ["example.com", "example.com"],
    [".inf", Number.POSITIVE_INFINITY],
    ["-.Inf", Number.NEGATIVE_INFINITY],
    [".nan", Number.NaN],
  ])("%s", (text, want) => {
    expect(resolvePlainScalar(text)).toBe(want);
  });
});

test.each<[string, string | undefined]>([
  ["27017", "27017"],
  ["0777", "511"],
  ["on", "true"],
  ["1.50", "1.5"],
  ["host", "host"],
  ["null", undefined],
])("key %s", (text, want) => {
  expect(keyOfPlainScalar(text)).toBe(want);
});
