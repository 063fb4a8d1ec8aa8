/** A trace of the simulator as text for people. */

import type { NatPacket, NatTrace, NatTraceRule } from "../wasm-nat/nat.ts";

export function printTrace(packet: NatPacket, trace: NatTrace): string {
  const { from, to, port, protocol = "TCP" } = packet;
  const target = to.includes(":") ? `[${to}]:${port}` : `${to}:${port}`;
  const what = port === 0 ? `icmp ${from} → ${to}` : `${protocol.toLowerCase()} ${from} → ${target}`;
  const lines = [what, `verdict     ${VERDICTS[trace.verdict]}`];
  if (trace.verdict === "dnat") {
    lines.push(...column("endpoints", trace.endpoints));
    lines.push(`source      ${sourceOf(trace)}`);
  }
  lines.push(...rulesBy(trace.rules));
  return `${lines.join("\n")}\n`;
}

const VERDICTS: Readonly<Record<NatTrace["verdict"], string>> = {
  dnat: "dnat: one of the endpoints gets it",
  reject: "reject: the client is told at once (ICMP port unreachable)",
  drop: "drop: the client hears nothing",
  untouched: "untouched: no rule of a Service applies, it goes where the routes lead",
};

function sourceOf({ masquerade, hairpin }: NatTrace): string {
  if (masquerade) return "masqueraded: the endpoint sees an address of the node";
  if (hairpin.length > 0) return `kept, but masqueraded where it is its own endpoint (${hairpin.join(", ")})`;
  return "kept: the endpoint sees the client's address";
}

function column(name: string, values: readonly string[]): readonly string[] {
  return values.map((value, index) => `${(index === 0 ? name : "").padEnd(12)}${value}`);
}

/** Each object once, above the rules that are there for it. */
function rulesBy(rules: readonly NatTraceRule[]): readonly string[] {
  if (rules.length === 0) return ["rules       none"];
  const width = Math.max(...rules.map(({ table, chain }) => table.length + chain.length + 1));
  let object: string | undefined;
  return [
    "rules",
    ...rules.flatMap((rule) => {
      const own = rule.object !== undefined && rule.object !== object ? [`  ${rule.object}`] : [];
      object = rule.object ?? object;
      return [...own, `    ${`${rule.table} ${rule.chain}`.padEnd(width)}  ${rule.rule}`];
    }),
  ];
}
