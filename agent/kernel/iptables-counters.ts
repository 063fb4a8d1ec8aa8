/**
 * What the iptables rules have counted: connections by Service port, refusals by reason, and how many rules there are.
 *
 * In: family. Out: numbers. The nat table sees the first packet of each connection, and the filter rules of Services look at
 * such packets only, so a packet is a connection. A chain that is written anew begins at 0, which Prometheus knows.
 * Reading costs what the rules cost; for scrapes and people, never for a change.
 */

import type { IpFamily } from "../../cluster/model.ts";
import { runCommand } from "./command.ts";
import { type IptablesOptions, programName, restoreError } from "./iptables.ts";

export interface IptablesServiceCount {
  /** `namespace/name`. */
  readonly service: string;
  /** Empty for an unnamed port. */
  readonly port: string;
  readonly protocol: string;
  readonly through: "address" | "node port";
  readonly connections: number;
}

export interface IptablesCounts {
  readonly services: readonly IptablesServiceCount[];
  /** By reason, in the words of the nftables backend. */
  readonly refusals: ReadonlyMap<string, number>;
  readonly masqueraded: number;
  /** Packets that the connection table calls invalid. */
  readonly invalid: number;
  /** Rules in chains of Services, by table. */
  readonly rules: ReadonlyMap<"nat" | "filter", number>;
}

const TIMEOUT_MS = 60_000;

export async function readIptablesCounts(
  family: IpFamily,
  options: IptablesOptions = {},
): Promise<IptablesCounts> {
  const counts = new Counting();
  for (const table of ["nat", "filter"] as const) {
    const program = programName({ family }, "save");
    const result = await runCommand(program, ["-c", "-t", table], {
      timeoutMs: TIMEOUT_MS,
      ...options,
      onLine: (line) => counts.take(table, line),
    });
    if (result.code !== 0) throw restoreError(program, result, []);
  }
  return counts;
}

/** What the comment of a refusing rule ends in, as kube-proxy has them, and the reason. */
const REASONS: readonly (readonly [RegExp, string])[] = [
  [/ has no endpoints$/, "no-endpoints"],
  [/ has no local endpoints$/, "no-local-endpoints"],
  [/ traffic not accepted by KUBE-FW-[A-Z2-7]{16}$/, "source-not-allowed"],
];

class Counting implements IptablesCounts {
  readonly services: IptablesServiceCount[] = [];
  readonly refusals = new Map<string, number>();
  readonly rules = new Map<"nat" | "filter", number>();
  masqueraded = 0;
  invalid = 0;

  take(table: "nat" | "filter", line: string): void {
    const rule = /^\[(\d+):\d+\] -A (KUBE-\S+) (.*)$/.exec(line);
    if (rule === null) return;
    const [, packets = "", chain = "", options = ""] = rule;
    const connections = Number(packets);
    this.rules.set(table, (this.rules.get(table) ?? 0) + 1);
    if (chain === "KUBE-POSTROUTING" && options.includes("-j MASQUERADE")) this.masqueraded += connections;
    if (chain === "KUBE-FORWARD" && options.endsWith("--ctstate INVALID -j DROP"))
      this.invalid += connections;
    const comment = /--comment "([^"]*)"/.exec(options)?.[1] ?? /--comment (\S+)/.exec(options)?.[1];
    if (comment === undefined) return;
    const reason = REASONS.find(([pattern]) => pattern.test(comment))?.[1];
    if (reason !== undefined && /-j (?:REJECT|DROP)\b/.test(options))
      this.refusals.set(reason, (this.refusals.get(reason) ?? 0) + connections);
    else if (
      connections > 0 &&
      /-[jg] KUBE-(?:SVC|SVL|EXT|FW)-[A-Z2-7]{16}$/.test(options) &&
      options.includes("--dport ")
    )
      this.#service(comment, options, connections);
  }

  /** `default/web:http cluster IP`, `default/web:http` for a node port. */
  #service(comment: string, options: string, connections: number): void {
    const [, service = "", port = ""] = /^([^/:\s]+\/[^/:\s]+?)(?::(\S+))?(?: .*)?$/.exec(comment) ?? [];
    const protocol = /-p (\S+)/.exec(options)?.[1] ?? "";
    if (service === "") return;
    const through = /(?:^| )-d /.test(options) ? "address" : "node port";
    this.services.push({ service, port, protocol, through, connections });
  }
}
