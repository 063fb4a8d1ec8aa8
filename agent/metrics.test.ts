import { expect, test } from "vitest";
import { createAgentMetrics } from "./metrics.ts";

test("kube-proxy's names, labels and buckets", () => {
  let nowMs = 1_000_000;
  const metrics = createAgentMetrics("nftables", ["IPv4", "IPv6"], () => nowMs);
  metrics.changesQueued(2, 3);
  expect(lines(metrics, "kubeproxy_sync_proxy_rules_service_changes")).toEqual([
    "kubeproxy_sync_proxy_rules_service_changes_total 2",
    "kubeproxy_sync_proxy_rules_service_changes_pending 2",
  ]);
  nowMs += 1_500;
  metrics.synced("resync", 3);
  metrics.programmed([
    { family: "IPv4", atMs: 1_000_000 },
    { family: "IPv6", atMs: 999_999 },
  ]);
  metrics.noLocalEndpoints({ IPv4: { internal: 1, external: 2 }, IPv6: { internal: 0, external: 3 } });
  metrics.swept("IPv6", 4, 20);
  metrics.probed("/healthz", 503);
  expect(lines(metrics, "kubeproxy_sync_proxy_rules_endpoint_changes_pending")).toEqual([
    "kubeproxy_sync_proxy_rules_endpoint_changes_pending 0",
  ]);
  const durations = lines(metrics, 'kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4"');
  expect(durations).toHaveLength(16);
  expect(durations.slice(0, 3)).toEqual([
    'kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.001"} 0',
    'kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.002"} 0',
    'kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.004"} 1',
  ]);
  // Nothing was written in part yet, and a rate over that is 0, not unknown.
  expect(lines(metrics, "kubeproxy_sync_partial_proxy_rules_duration_seconds_count")).toEqual([
    'kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family="IPv4"} 0',
    'kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family="IPv6"} 0',
  ]);
  expect(lines(metrics, "kubeproxy_network_programming_duration_seconds_count")).toEqual([
    'kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"} 1',
    'kubeproxy_network_programming_duration_seconds_count{ip_family="IPv6"} 0',
  ]);
  expect(lines(metrics, "kubeproxy_sync_proxy_rules_no_local_endpoints_total")).toEqual([
    'kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="internal"} 1',
    'kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="external"} 2',
    'kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv6",traffic_policy="internal"} 0',
    'kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv6",traffic_policy="external"} 3',
  ]);
  const programming = lines(
    metrics,
    'kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4"',
  );
  const bounds = programming.map((line) => /le="([^"]+)"/.exec(line)?.[1]);
  expect(bounds.slice(0, 4)).toEqual(["0.25", "0.5", "1", "2"]);
  expect(bounds.slice(60, 64)).toEqual(["59", "60", "65", "70"]);
  expect(bounds.slice(-4)).toEqual(["240", "270", "300", "+Inf"]);
  expect(lines(metrics, "kubeproxy_conntrack_reconciler_deleted_entries_total")).toEqual([
    'kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv4"} 0',
    'kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv6"} 4',
  ]);
  expect(lines(metrics, "kubeproxy_proxy_healthz_total")).toEqual([
    'kubeproxy_proxy_healthz_total{code="503"} 1',
  ]);
  expect(lines(metrics, "kubeproxy_sync_proxy_rules_last_timestamp_seconds")).toContain(
    'kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 1001.5',
  );
});

test("failures have the name of the backend", () => {
  const nft = createAgentMetrics("nftables", ["IPv4"]);
  nft.syncFailed("change", { failed: ["IPv4"], synced: [] });
  expect(lines(nft, "kubeproxy_sync_proxy_rules_nftables_sync_failures_total")).toEqual([
    'kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv4"} 1',
  ]);
  const iptables = createAgentMetrics("iptables", ["IPv4", "IPv6"], () => 5_000);
  iptables.syncFailed("change", { failed: ["IPv6"], synced: ["IPv4"] });
  iptables.syncFailed("resync", { failed: ["IPv4", "IPv6"], synced: [] });
  expect(lines(iptables, "kubeproxy_sync_proxy_rules_iptables_")).toEqual([
    'kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv4"} 1',
    'kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv6"} 2',
    'kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family="IPv4"} 0',
    'kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family="IPv6"} 1',
  ]);
  expect(lines(iptables, "kubeproxy_sync_proxy_rules_last_timestamp_seconds")).toEqual([
    'kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 5',
  ]);
});

test("rules of iptables that the last sync wrote, by family and table", () => {
  const metrics = createAgentMetrics("iptables", ["IPv4", "IPv6"]);
  const text = (lines: readonly string[]) => new TextEncoder().encode(lines.join("\n"));
  const last = () => lines(metrics, "kubeproxy_sync_proxy_rules_iptables_last");
  metrics.applied({
    program: "iptables-restore",
    text: text(["*filter", ":KUBE-SERVICES - [0:0]", "-A KUBE-SERVICES -j ACCEPT", "COMMIT", "*nat"]),
  });
  metrics.applied({
    program: "iptables-restore",
    text: text([
      "*nat",
      "-A KUBE-SERVICES -j A",
      "-D KUBE-SERVICES -j A",
      "-A KUBE-SERVICES -j B",
      "COMMIT",
      "",
    ]),
  });
  metrics.synced("resync", 1);
  expect(last()).toEqual([
    'kubeproxy_sync_proxy_rules_iptables_last{ip_family="IPv4",table="filter"} 1',
    'kubeproxy_sync_proxy_rules_iptables_last{ip_family="IPv4",table="nat"} 2',
    'kubeproxy_sync_proxy_rules_iptables_last{ip_family="IPv6",table="filter"} 0',
    'kubeproxy_sync_proxy_rules_iptables_last{ip_family="IPv6",table="nat"} 0',
  ]);
  metrics.synced("change", 1);
  expect(last().map((line) => line.slice(-1))).toEqual(["0", "0", "0", "0"]);
});

test("the process, under the names of Prometheus' clients", () => {
  const metrics = createAgentMetrics("ipvs", ["IPv4"]);
  metrics.memory(12_345, 678);
  const value = (name: string) => Number(lines(metrics, `${name} `)[0]?.split(" ")[1]);
  expect(value("process_resident_memory_bytes")).toBe(12_345);
  const { user, system } = process.cpuUsage();
  expect(value("process_cpu_seconds_total")).toBeCloseTo((user + system) / 1e6, 0);
  expect(Math.abs(value("process_start_time_seconds") - (Date.now() / 1000 - process.uptime()))).toBeLessThan(
    2,
  );
  expect(lines(metrics, "# TYPE process_cpu_seconds_total")).toEqual([
    "# TYPE process_cpu_seconds_total counter",
  ]);
});

function lines(metrics: ReturnType<typeof createAgentMetrics>, beginning: string): readonly string[] {
  return metrics.registry
    .text()
    .split("\n")
    .filter((line) => line.startsWith(beginning));
}
