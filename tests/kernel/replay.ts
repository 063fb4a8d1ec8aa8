/**
 * Sends vectors and tells what came of each, in the words that the tables use.
 *
 * In: a lab whose node-a is programmed, and vectors. Out: for each vector the findings of the real kernel, sorted.
 * How often a vector is sent depends on what is seen: until everything wanted has been seen, and long enough for what is not
 * wanted to show. That decides only how soon it ends, never what is found.
 */
import { hostPort, namespaceOf } from "./addresses.ts";
import { isOnNodeA } from "./destinations.ts";
import type { Lab } from "./lab.ts";
import { PATIENCE } from "./netns.ts";
import type { Outcome } from "./prober.ts";
import { type Backend, type Finding, MASQUERADED, type Vector } from "./table.ts";

/** Probes of one vector at a time. */
const BURST = 6;
/** An unwanted fourth endpoint beside three escapes 18 probes once in 180 times, and not in both families and backends. */
const LEAST_PROBES = 18;
/** Three endpoints not seen after so many: once in 10^28 times by chance. */
const MOST_PROBES = 162;
/** Verdicts without choice need no crowd. */
const VERDICT_PROBES = 3;
/** A packet that gets through takes microseconds; only a wrong answer could come later, and a busy machine. */
const SILENCE_MS = 700 * PATIENCE;
const PATIENCE_MS = 3_000 * PATIENCE;
/** Vectors under way at a time. */
const CONCURRENCY = 48;

const ICMP_PORT_UNREACHABLE = { ipv4: [3, 3], ipv6: [1, 4] } as const;

/** Lets everybody who may be asked by these vectors answer: node-a for itself, the world for all others. */
export async function serveUntouched(lab: Lab, vectors: readonly Vector[]): Promise<void> {
  await Promise.all(
    vectors.map(async ({ address, family, protocol, port }) => {
      if (protocol === "icmp") return;
      await lab.serve(isOnNodeA(address, family) ? "node-a" : "world", protocol, port);
    }),
  );
}

/** Findings by the vector's place in the list. */
export async function replay(
  lab: Lab,
  vectors: readonly Vector[],
  backend: Backend,
): Promise<readonly (readonly Finding[])[]> {
  await lab.forgetConnections();
  if (backend === "ipvs") await lab.forgetFlowsOfIpvs();
  const results: (readonly Finding[])[] = [];
  const queue = vectors.map((vector, index) => ({ vector, index }));
  // What will be dropped only waits; it must not keep others waiting.
  const isSilent = ({ vector }: { readonly vector: Vector }) => vector.want[backend].includes("drop");
  const send = async ({ vector, index }: (typeof queue)[number]) => {
    results[index] = await findingsOf(lab, vector, vector.want[backend]);
  };
  const loud = queue.filter((one) => !isSilent(one)).values();
  await Promise.all([
    ...queue.filter(isSilent).map(send),
    ...Array.from({ length: CONCURRENCY }, async () => {
      for (const one of loud) await send(one);
    }),
  ]);
  return results;
}

async function findingsOf(lab: Lab, vector: Vector, want: readonly Finding[]): Promise<readonly Finding[]> {
  const seen = new Set<Finding>();
  const doubtful = new Set<Finding>();
  const hasChoice = want.some((finding) => finding.includes(":"));
  const least = hasChoice ? LEAST_PROBES : VERDICT_PROBES;
  const burst = hasChoice ? BURST : VERDICT_PROBES;
  for (let sent = 0; sent < MOST_PROBES; sent += burst) {
    const isComplete = vector.isSticky ? seen.size > 0 : want.every((finding) => seen.has(finding));
    if (sent >= least && isComplete) break;
    // Silence where an answer is wanted is finding enough, and slow.
    if (seen.has("drop") && !want.includes("drop")) break;
    const outcomes = await Promise.all(Array.from({ length: burst }, () => probe(lab, vector, want)));
    for (const outcome of outcomes) {
      const finding = findingOf(vector, outcome);
      // A port drawn at random is now and then the one that it was, or that of a later connection; hardly twice.
      if (!want.includes(finding) && isToldByPort(vector, outcome) && !doubtful.has(finding)) {
        doubtful.add(finding);
        continue;
      }
      seen.add(finding);
    }
  }
  return [...seen].sort();
}

/**
 * Source ports of node-a's own probes, each used once in a replay: what shows that they are masqueraded is their port, which
 * the kernel changes also where two connections to one endpoint would have the same. Above what node-a serves.
 */
const OWN_PORTS = { first: 33_000, last: 60_999 } as const;
let ownPorts = 0;

function probe(lab: Lab, vector: Vector, want: readonly Finding[]): Promise<Outcome> {
  const sourcePort = isOnNodeA(vector.source, vector.family)
    ? OWN_PORTS.first + (ownPorts++ % (OWN_PORTS.last - OWN_PORTS.first))
    : 0;
  return lab.prober.probe({
    netns: lab.namespaces.real(namespaceOf(vector.from)),
    protocol: vector.protocol,
    source: vector.source,
    sourcePort,
    address: vector.address,
    port: vector.port,
    timeoutMs: want.includes("drop") ? SILENCE_MS : PATIENCE_MS,
  });
}

/** Of what node-a sends with its own address, which is masqueraded to that very address: only the port tells. */
function isToldByPort(
  { family }: Pick<Vector, "family">,
  outcome: Outcome,
): outcome is Extract<Outcome, { readonly kind: "answered" }> {
  return outcome.kind === "answered" && isOnNodeA(outcome.local, family) && outcome.seen === outcome.local;
}

function keepsItsPort(vector: Pick<Vector, "family">, outcome: Outcome): boolean {
  return isToldByPort(vector, outcome) && outcome.seenPort === outcome.localPort;
}

/** One outcome in the tables' words. What has none there is told in a sentence, which no table wants. */
export function findingOf(vector: Pick<Vector, "address" | "port" | "family">, outcome: Outcome): Finding {
  const { address, port, family } = vector;
  switch (outcome.kind) {
    case "answered": {
      const isMasqueraded = isOnNodeA(outcome.local, family)
        ? !keepsItsPort(vector, outcome)
        : outcome.seen !== outcome.local;
      if (outcome.endpoint === address && outcome.endpointPort === port) {
        return isMasqueraded ? "untouched but for the source" : "untouched";
      }
      return `${hostPort(outcome.endpoint, outcome.endpointPort)}${isMasqueraded ? MASQUERADED : ""}`;
    }
    case "icmp": {
      const [type, code] = ICMP_PORT_UNREACHABLE[family];
      if (outcome.type === type && outcome.code === code) return "reject";
      return `ICMP type ${outcome.type} code ${outcome.code} from ${outcome.from}`;
    }
    case "silent":
      return "drop";
    case "reset":
      return "TCP RST";
    case "closed":
      return "closed";
    case "error":
      return `error: ${outcome.reason}`;
    default:
      return outcome satisfies never;
  }
}
