/**
 * The one way in which these tests are skipped where the machine lacks what they need.
 */
import { describe, it } from "vitest";
import { missingForKernelTests } from "../../setup/kernel-requirements.mjs";

/** A `describe` for tests with real packets: where they cannot run, one skipped test tells why. */
export function describeKernel(name: string, body: () => void): void {
  const missing = missingForKernelTests();
  if (missing === undefined) {
    describe(name, body);
    return;
  }
  describe(name, () => {
    console.warn(`tests/kernel, ${name}: ${missing}.`);
    it.skip(missing, () => {});
  });
}
