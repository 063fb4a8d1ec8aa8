/**
 * `fairlead control` beside a cluster: the connection, the source, the election and the reporter, and their end.
 *
 * In: flags. Out: what `runControl` takes of it. Not here: any of their work (`control/kubernetes/`).
 */

import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { CompileOptions } from "../control/compile/options.ts";
import type { Log } from "../control/log.ts";
import type { ControlOptions } from "../control/main.ts";
import type { Metrics } from "../control/metrics.ts";
import { CommandFailure, UsageError } from "./failure.ts";
import { addKubernetesOptions, apiAccess, type KubernetesFlags } from "./kubernetes-input.ts";

export interface ClusterFlags extends KubernetesFlags {
  readonly clusterName: string;
  readonly ingressSelector?: string;
  readonly lease?: string;
  readonly leaseDuration: number;
  readonly edgeAddress?: readonly string[];
  /** `--no-events` makes it false. */
  readonly events: boolean;
}

export function addClusterOptions(command: Command): Command {
  return addKubernetesOptions(command)
    .addOption(
      new Option("--cluster-name <name>", "name of the cluster that is followed, a DNS label")
        .default("default")
        .env("FAIRLEAD_CLUSTER_NAME"),
    )
    .addOption(
      new Option("--ingress-selector <selector>", "label selector: only these Ingresses are followed").env(
        "FAIRLEAD_INGRESS_SELECTOR",
      ),
    )
    .addOption(
      new Option(
        "--lease <namespace/name>",
        "elect one leader among replicas by this Lease (default: no election, this is the only replica)",
      ).env("FAIRLEAD_LEASE"),
    )
    .addOption(
      new Option("--lease-duration <seconds>", "how long a leader that is gone keeps the Lease")
        .argParser(seconds)
        .default(15)
        .env("FAIRLEAD_LEASE_DURATION"),
    )
    .addOption(
      new Option(
        "--edge-address <names>",
        "host names or IP addresses of the edge, by commas, for the status of Ingresses (default: it is left alone)",
      )
        .argParser(addressList)
        .env("FAIRLEAD_EDGE_ADDRESS"),
    )
    .addOption(new Option("--no-events", "tell the cluster no Events about what is wrong"));
}

export type ClusterParts = Pick<ControlOptions, "sources" | "leadership" | "reporter" | "metrics"> & {
  /** Gives the Lease back and closes every connection; after the service has ended. */
  readonly close: () => Promise<void>;
};

/** Throws a `UsageError` or `CommandFailure`; `undefined`: no cluster shall be followed. */
export async function connectCluster(
  flags: ClusterFlags,
  compile: CompileOptions,
  log: Log,
): Promise<ClusterParts | undefined> {
  const access = apiAccess(flags);
  if (access === undefined) {
    const needy = (["lease", "edgeAddress", "namespaces", "ingressSelector"] as const).find(
      (flag) => flags[flag],
    );
    if (needy === undefined) return undefined;
    throw new UsageError(
      `--${needy.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)} needs --kubernetes.`,
    );
  }
  if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(flags.clusterName))
    throw new UsageError(`--cluster-name takes a DNS label, not ${JSON.stringify(flags.clusterName)}.`);
  const lease = leaseName(flags.lease || undefined);

  const [
    { connectKubernetes },
    { createKubernetesSource },
    { createReporter },
    { createLeaseElection },
    { createMetrics },
  ] = await Promise.all([
    import("../cluster/watch/api.ts"),
    import("../control/kubernetes/source.ts"),
    import("../control/kubernetes/reporter.ts"),
    import("../control/kubernetes/lease.ts"),
    import("../control/metrics.ts"),
  ]);
  const api = connected(() => connectKubernetes(access));
  const identity = `${process.env.POD_NAME || hostname()}_${randomBytes(4).toString("hex")}`;
  const metrics: Metrics = createMetrics();
  const source = createKubernetesSource({
    cluster: flags.clusterName,
    api,
    compile,
    namespaces: flags.namespaces,
    ingressSelector: flags.ingressSelector || undefined,
    metrics,
    log,
  });
  const reporter = createReporter({
    api,
    source,
    ingressClass: compile.ingressClass,
    addresses: flags.edgeAddress ?? [],
    events: flags.events,
    identity,
    metrics,
    log,
  });
  const durationMs = flags.leaseDuration * 1_000;
  const election =
    lease === undefined
      ? undefined
      : createLeaseElection(
          api,
          {
            ...lease,
            identity,
            durationMs,
            renewDeadlineMs: (durationMs * 2) / 3,
            retryMs: (durationMs * 2) / 15,
          },
          log,
        );
  return {
    sources: [source],
    ...(election === undefined ? {} : { leadership: election }),
    reporter,
    metrics,
    close: async () => {
      reporter.close();
      source.close();
      await election?.stop();
      api.close();
    },
  };
}

function connected<T>(connect: () => T): T {
  try {
    return connect();
  } catch (error) {
    throw new CommandFailure(error instanceof Error ? error.message : String(error));
  }
}

function leaseName(
  text: string | undefined,
): { readonly namespace: string; readonly name: string } | undefined {
  if (text === undefined) return undefined;
  const [namespace, name, ...rest] = text.split("/");
  if (!namespace || !name || rest.length > 0)
    throw new UsageError(`--lease takes namespace/name, not ${JSON.stringify(text)}.`);
  return { namespace, name };
}

function addressList(text: string): readonly string[] {
  const addresses = text.split(",").map((address) => address.trim());
  if (addresses.some((address) => !/^[a-z0-9]([-.:a-z0-9]*[a-z0-9])?$/i.test(address)))
    throw new InvalidArgumentError("Host names or IP addresses are expected, by commas.");
  return addresses;
}

function seconds(text: string): number {
  const number = Number(text);
  if (text.trim() === "" || !Number.isFinite(number) || number < 1 || number > 3_600)
    throw new InvalidArgumentError("A number of seconds from 1 to 3600 is expected.");
  return number;
}
