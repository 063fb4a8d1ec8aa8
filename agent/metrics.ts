/**
 * What the agent counts, under kube-proxy's names (prefix `kubeproxy_`), so that dashboards and alerts made for
 * it go on working. Fairlead's own are `fairlead_agent_…`.
 *
 * Durations are in seconds. Where a series has a label `ip_family`, it is `IPv4` or `IPv6`.
 */

import type { IpFamily } from "../cluster/model.ts";
import type { NatStatus, NatTransaction } from "../wasm-nat/nat.ts";
import type { BackendName } from "./backends/backend.ts";
import { countRules } from "./kernel/iptables.ts";
import { createRegistry, type Labels, type Registry } from "./prometheus.ts";
import type { Counters } from "./service-counters.ts";
import type { Trigger } from "./service-follower.ts";
import type { WatchState } from "./sources/source.ts";
import type { AffectedFamilies } from "./sync.ts";

export interface AgentMetrics {
  readonly registry: Registry;
  readonly synced: (kind: "change" | "resync", durationMs: number) => void;
  readonly syncFailed: (kind: "change" | "resync", families: AffectedFamilies) => void;
  /** Changes that came, for the next sync. */
  readonly changesQueued: (services: number, slices: number) => void;
  /** `endpoints.kubernetes.io/last-change-trigger-time` of the slices that were written. */
  readonly programmed: (triggers: readonly Trigger[]) => void;
  readonly swept: (family: IpFamily, deleted: number, durationMs: number) => void;
  readonly noLocalEndpoints: (services: NatStatus["noLocalEndpoints"]) => void;
  readonly probed: (path: "/healthz" | "/livez", status: number) => void;
  readonly drifted: () => void;
  /** Bytes of the process, and of the compiler in it. */
  readonly memory: (residentBytes: number, compilerBytes: number) => void;
  /** The kernel has taken it, as a part of the next sync. */
  readonly applied: (transaction: Pick<NatTransaction, "program" | "text">) => void;
  /** What the kernel has counted until now. */
  readonly counted: (counters: Counters) => void;
  /** It could not be read. */
  readonly countersFailed: () => void;
  /** Of each kind of the API server's. */
  readonly followed: (watches: readonly WatchState[]) => void;
}

/** 1 ms, doubled 14 times. */
const SYNC_BOUNDS = Array.from({ length: 15 }, (_, power) => 0.001 * 2 ** power);
const PROGRAMMING_BOUNDS = [...[0.25, 0.5], ...range(1, 59, 1), ...range(60, 115, 5), ...range(120, 300, 30)];

export function createAgentMetrics(
  backend: BackendName,
  families: readonly IpFamily[],
  nowMs: () => number = Date.now,
): AgentMetrics {
  const registry = createRegistry();
  const { counter, gauge, histogram } = registry;
  const startedAtMs = nowMs();
  const each = (act: (labels: { readonly ip_family: IpFamily }) => void): void => {
    for (const ip_family of families) act({ ip_family });
  };

  const all = histogram(
    "kubeproxy_sync_proxy_rules_duration_seconds",
    "How long a sync of the rules took.",
    SYNC_BOUNDS,
  );
  const full = histogram(
    "kubeproxy_sync_full_proxy_rules_duration_seconds",
    "How long a sync took that read the kernel back.",
    SYNC_BOUNDS,
  );
  const partial = histogram(
    "kubeproxy_sync_partial_proxy_rules_duration_seconds",
    "How long a sync took that wrote what had changed.",
    SYNC_BOUNDS,
  );
  const lastSync = gauge(
    "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
    "When the rules were last brought in line.",
  );
  const lastQueued = gauge(
    "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
    "When a sync was last asked for.",
  );
  const servicesTotal = counter(
    "kubeproxy_sync_proxy_rules_service_changes_total",
    "Services that have changed.",
  );
  const servicesPending = gauge(
    "kubeproxy_sync_proxy_rules_service_changes_pending",
    "Services whose change is not in the kernel yet.",
  );
  const endpointsTotal = counter(
    "kubeproxy_sync_proxy_rules_endpoint_changes_total",
    "EndpointSlices that have changed.",
  );
  const endpointsPending = gauge(
    "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
    "EndpointSlices whose change is not in the kernel yet.",
  );
  const programming = histogram(
    "kubeproxy_network_programming_duration_seconds",
    "From a change of a Pod or Service until the rules have it.",
    PROGRAMMING_BOUNDS,
  );
  const noLocal = gauge(
    "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
    "Service ports with a Local traffic policy that have endpoints, and none on this node.",
  );
  const healthz = counter("kubeproxy_proxy_healthz_total", "Answers of /healthz, by status.");
  const livez = counter("kubeproxy_proxy_livez_total", "Answers of /livez, by status.");
  const sweeps = histogram(
    "kubeproxy_conntrack_reconciler_sync_duration_seconds",
    "How long a search for stale UDP flows took.",
    SYNC_BOUNDS,
  );
  const flows = counter(
    "kubeproxy_conntrack_reconciler_deleted_entries_total",
    "Stale UDP flows that were deleted.",
  );
  const drifts = counter(
    "fairlead_agent_drifts_total",
    "How often the kernel was found to hold other rules than were written.",
  );
  const counterFailures = counter(
    "fairlead_agent_counter_failures_total",
    "How often the kernel's own counters could not be read; those that are told are older then.",
  );
  const connected = gauge(
    "fairlead_agent_watch_connected",
    "1 while the API server tells what changes in objects of a kind; at 0 the rules are those of the last state that came.",
  );
  drifts.add(0);
  counterFailures.add(0);
  // What Prometheus' own clients tell of a process, which kube-proxy's dashboards show beside the rest.
  const processor = registry.collected(
    "process_cpu_seconds_total",
    "Total user and system CPU time spent in seconds.",
  );
  gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.").set(
    Math.round(Date.now() / 1000 - process.uptime()),
  );
  registry.beforeText(() => {
    const { user, system } = process.cpuUsage();
    processor.replace([[{}, (user + system) / 1e6]]);
  });
  const resident = gauge("process_resident_memory_bytes", "Resident memory size in bytes.");
  const compilerMemory = gauge(
    "fairlead_agent_compiler_memory_bytes",
    "Memory of the NAT compiler, a part of the resident memory.",
  );
  const connections = registry.collected(
    "fairlead_agent_service_connections_total",
    "New connections to a Service port; those without any are not told.",
  );
  const refused = registry.collected(
    "fairlead_agent_refused_connections_total",
    "New connections that were refused or dropped, by the reason (the chain that did it).",
  );
  const masqueraded = registry.collected(
    "fairlead_agent_masqueraded_connections_total",
    "New connections that got an address of the node as their source.",
  );
  const failures =
    backend === "nftables"
      ? counter("kubeproxy_sync_proxy_rules_nftables_sync_failures_total", "Transactions that were refused.")
      : counter(
          "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
          "Runs of iptables-restore that failed.",
        );
  const partialFailures =
    backend === "iptables"
      ? counter(
          "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total",
          "Partial runs of iptables-restore that failed.",
        )
      : undefined;
  each((labels) => {
    for (const duration of [all, full, partial, programming, sweeps]) duration.preset(labels);
    failures.add(0, labels);
    partialFailures?.add(0, labels);
    flows.add(0, labels);
  });

  const rulesTotal =
    backend === "iptables"
      ? registry.gauge("kubeproxy_sync_proxy_rules_iptables_total", "Rules of Services, by table.")
      : undefined;

  const rulesLast =
    backend === "iptables"
      ? registry.gauge(
          "kubeproxy_sync_proxy_rules_iptables_last",
          "Rules of Services that the last sync wrote, by table.",
        )
      : undefined;
  const rulesWritten = new Map<IpFamily, Map<string, number>>();
  const showWritten = (): void => {
    for (const ip_family of families) {
      const written = rulesWritten.get(ip_family);
      for (const table of ["filter", "nat"]) rulesLast?.set(written?.get(table) ?? 0, { ip_family, table });
    }
    rulesWritten.clear();
  };
  const invalid =
    backend === "nftables"
      ? undefined
      : registry.collected(
          "kubeproxy_iptables_ct_state_invalid_dropped_packets_total",
          "Packets that were dropped because the connection table calls them invalid.",
        );

  const pending = { services: 0, slices: 0 };
  const showPending = (): void => {
    servicesPending.set(pending.services);
    endpointsPending.set(pending.slices);
  };

  return {
    registry,
    synced: (kind, durationMs) => {
      [pending.services, pending.slices] = [0, 0];
      showPending();
      showWritten();
      each((labels) => {
        all.observe(durationMs / 1000, labels);
        (kind === "resync" ? full : partial).observe(durationMs / 1000, labels);
        lastSync.set(nowMs() / 1000, labels);
      });
    },
    syncFailed: (kind, { failed, synced }) =>
      each((labels) => {
        if (synced.includes(labels.ip_family)) lastSync.set(nowMs() / 1000, labels);
        if (!failed.includes(labels.ip_family)) return;
        failures.add(1, labels);
        if (kind === "change") partialFailures?.add(1, labels);
      }),
    changesQueued: (services, slices) => {
      servicesTotal.add(services);
      endpointsTotal.add(slices);
      pending.services += services;
      pending.slices += slices;
      showPending();
      each((labels) => lastQueued.set(nowMs() / 1000, labels));
    },
    programmed: (triggers) => {
      for (const { family, atMs } of triggers) {
        // What changed before we were there did not wait for us.
        if (atMs < startedAtMs || !families.includes(family)) continue;
        programming.observe(Math.max(0, nowMs() - atMs) / 1000, { ip_family: family });
      }
    },
    swept: (ip_family, deleted, durationMs) => {
      sweeps.observe(durationMs / 1000, { ip_family });
      flows.add(deleted, { ip_family });
    },
    noLocalEndpoints: (services) =>
      each((labels) => {
        for (const traffic_policy of ["internal", "external"] as const)
          noLocal.set(services[labels.ip_family][traffic_policy], { ...labels, traffic_policy });
      }),
    probed: (path, status) => (path === "/healthz" ? healthz : livez).add(1, { code: String(status) }),
    drifted: () => drifts.add(1),
    countersFailed: () => counterFailures.add(1),
    followed: (watches) => {
      for (const { kind, isConnected } of watches) connected.set(Number(isConnected), { kind });
    },
    memory: (residentBytes, compilerBytes) => {
      resident.set(residentBytes);
      compilerMemory.set(compilerBytes);
    },
    applied: ({ program, text }) => {
      const family = RESTORED_FAMILY.get(program);
      if (family === undefined || rulesLast === undefined) return;
      const sums = rulesWritten.get(family) ?? new Map<string, number>();
      for (const [table, rules] of countRules(text)) sums.set(table, (sums.get(table) ?? 0) + rules);
      rulesWritten.set(family, sums);
    },
    counted: (counters) => {
      invalid?.replace([...counters.invalid].map(([ip_family, packets]) => [{ ip_family }, packets]));
      connections.replace(
        counters.services.map(
          ({ family, namespace, service, protocol, port, through, connections: count }) => [
            { ip_family: family, namespace, service, protocol, port, through } satisfies Labels,
            count,
          ],
        ),
      );
      refused.replace(
        counters.refusals.map(({ family, reason, connections: count }) => [
          { ip_family: family, reason },
          count,
        ]),
      );
      for (const { family, table, rules } of counters.rules)
        rulesTotal?.set(rules, { ip_family: family, table });
      masqueraded.replace([...counters.masqueraded].map(([ip_family, count]) => [{ ip_family }, count]));
    },
  };
}

const RESTORED_FAMILY: ReadonlyMap<NatTransaction["program"], IpFamily> = new Map([
  ["iptables-restore", "IPv4"],
  ["ip6tables-restore", "IPv6"],
]);

function range(from: number, to: number, step: number): readonly number[] {
  return Array.from({ length: (to - from) / step + 1 }, (_, index) => from + index * step);
}
