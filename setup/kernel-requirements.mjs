/**
 * What the tests with real packets need of the machine. The answer is one sentence, or undefined where all is there; its
 * beginning is what `tests/allowed-skips.txt` refers to.
 */
import { spawnSync } from "node:child_process";
import { isRoot, which } from "./process.mjs";

const PROGRAMS = ["ip", "nft", "iptables", "iptables-legacy", "iptables-nft", "conntrack", "cargo"];

/** One sentence, or undefined if everything is there. */
export function missingForKernelTests() {
  if (!isRoot()) return "not root, and network namespaces and their rules are made by root only";
  const missing = PROGRAMS.filter((program) => which(program) === undefined);
  if (missing.length > 0) return `no ${missing.join(", ")}, which \`npm run setup\` installs as root`;
  // Root of a container may be root of nothing: tried, rather than concluded from capabilities.
  const tried = spawnSync(
    "unshare",
    ["--net", which("nft") ?? "nft", "add", "table", "ip", "fairlead-trial"],
    {
      encoding: "utf8",
    },
  );
  if (tried.status === 0) return undefined;
  const said = (tried.stderr || tried.error?.message || "").trim().split("\n").at(-1);
  return `no network namespaces with rules of their own for this root: ${said}`;
}
