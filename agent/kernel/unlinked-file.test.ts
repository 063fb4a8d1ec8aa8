import { readlinkSync } from "node:fs";
import { expect, test } from "vitest";
import { UnlinkedFile } from "./unlinked-file.ts";

function read(
  text: string,
  pieceBytes: number,
): { readonly pieces: readonly string[]; readonly whole: string } {
  const file = UnlinkedFile.of([text]);
  // A view holds until the next one is asked for.
  const pieces = Array.from(file.pieces(pieceBytes), (piece) => Buffer.from(piece).toString("utf8"));
  const whole = Buffer.from(file.whole()).toString("utf8");
  file.close();
  return { pieces, whole };
}

test.each([
  ["", [""]],
  ["a\n", ["a\n"]],
  ["ab\ncd\nef\n", ["ab\ncd\n", "ef\n"]],
  ["ab\ncd\nefg", ["ab\ncd\n", "efg"]],
  ["abcdefgh", ["abcdefgh"]],
  ["abcdefghijkl\nm\nn", ["abcdefghijkl\nm\n", "n"]],
])("%j in pieces of about 8 bytes", (text, pieces) => {
  const seen = read(text, 8);
  expect(seen.whole).toBe(text);
  expect(seen.pieces.filter((piece, at) => piece !== "" || at === 0)).toEqual(pieces);
});

test("pieces are whole lines and all of it, wherever the cuts fall", () => {
  const text = Array.from({ length: 500 }, (_, n) => "x".repeat((n * 7) % 23)).join("\n");
  for (let pieceBytes = 1; pieceBytes < 60; pieceBytes++) {
    const { pieces } = read(text, pieceBytes);
    expect(pieces.join("")).toBe(text);
    for (const piece of pieces.slice(0, -1)) expect(piece.endsWith("\n")).toBe(true);
  }
});

test("it has no name", () => {
  const file = UnlinkedFile.of([]);
  expect(readlinkSync(`/proc/self/fd/${file.descriptor}`)).toMatch(/ \(deleted\)$/);
  file.close();
});
