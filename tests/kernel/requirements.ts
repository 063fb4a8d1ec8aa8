/**
 * What these tests need of the machine, and the one way in which they are skipped where it is missing.
 */
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { describe, it } from "vitest";

const PROGRAMS = ["ip", "nft", "iptables", "iptables-legacy", "iptables-nft", "conntrack", "cargo"];

/** One sentence, or undefined if everything is there. */
export function whatIsMissing(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root: network namespaces and their rules are made by root only";
  const folders = (process.env.PATH ?? "").split(delimiter);
  const missing = PROGRAMS.filter((program) => !folders.some((folder) => existsSync(join(folder, program))));
  return missing.length > 0
    ? `needs ${missing.join(", ")}, which \`npm run setup\` installs as root`
    : undefined;
}

/** A `describe` for tests with real packets: where they cannot run, one skipped test tells why. */
export function describeKernel(name: string, body: () => void): void {
  const missing = whatIsMissing();
  if (missing === undefined) {
    describe(name, body);
    return;
  }
  describe(name, () => {
    console.warn(`tests/kernel, ${name}: ${missing}.`);
    it.skip(missing, () => {});
  });
}
