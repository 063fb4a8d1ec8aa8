/** Pod of v1: addresses, readiness and ports. The rest of a Pod is not looked at, so its unknown fields pass in silence. */

import { parseIpAddress } from "../ip-address.ts";
import type { ContainerPort, ObjectMeta, Pod } from "../model.ts";
import type { FieldReader } from "./field-reader.ts";
import { isBeingDeleted } from "./meta.ts";
import { readProtocol } from "./service.ts";

export function readPod(root: FieldReader, meta: ObjectMeta): Pod | undefined {
  const spec = root.map("spec");
  const status = root.map("status");
  const podIPs = status === undefined ? [] : readIPs(status, "podIPs", "podIP");
  const hostIPs = status === undefined ? [] : readIPs(status, "hostIPs", "hostIP");
  const phase = status?.text("phase");
  const nodeName = spec?.text("nodeName");
  const pod: Pod = {
    kind: "Pod",
    meta,
    ...(nodeName === undefined || nodeName === "" ? {} : { nodeName }),
    hostNetwork: spec?.flag("hostNetwork") ?? false,
    podIPs,
    hostIPs,
    ...(phase === undefined ? {} : { phase }),
    ready: isReady(status, podIPs.length > 0, phase),
    terminating: isBeingDeleted(root),
    containerPorts: spec === undefined ? [] : readContainerPorts(spec),
  };
  return root.failed ? undefined : pod;
}

/** Condition Ready. Without any condition, as people write a Pod: ready once it has an address and has not come to an end. */
function isReady(status: FieldReader | undefined, hasAddress: boolean, phase: string | undefined): boolean {
  if (status === undefined) return false;
  if (!status.has("conditions")) return hasAddress && (phase === undefined || phase === "Running");
  const conditions = status.maps("conditions", "the condition is ignored");
  return conditions.some(
    (condition) => condition.text("type") === "Ready" && condition.text("status") === "True",
  );
}

function readIPs(status: FieldReader, listField: string, field: string): readonly string[] {
  const texts = status.maps(listField, "the address is ignored").flatMap((entry) => entry.text("ip") ?? []);
  const single = status.text(field) ?? "";
  const addresses = new Set<string>();
  for (const text of single === "" ? texts : [single, ...texts]) {
    const address = parseIpAddress(text);
    if (address !== undefined) addresses.add(address.text);
  }
  return [...addresses];
}

/** Of containers, and of init containers that stay (sidecars): named target ports are looked up in both. */
function readContainerPorts(spec: FieldReader): readonly ContainerPort[] {
  const containers = [
    ...spec.maps("containers", "the container is ignored"),
    ...spec
      .maps("initContainers", "the container is ignored")
      .filter((container) => container.raw.restartPolicy === "Always"),
  ];
  const ports: ContainerPort[] = [];
  for (const container of containers) {
    for (const reader of container.maps("ports", "the port is ignored")) {
      const name = reader.text("name") ?? "";
      const containerPort = reader.integer("containerPort", 1, 65535);
      const hostPort = reader.integer("hostPort", 0, 65535);
      const hostIP = reader.text("hostIP") ?? "";
      const protocol = readProtocol(reader);
      if (reader.failed || containerPort === undefined) continue;
      ports.push({
        ...(name === "" ? {} : { name }),
        containerPort,
        ...(hostPort === undefined || hostPort === 0 ? {} : { hostPort }),
        ...(hostIP === "" ? {} : { hostIP }),
        protocol,
      });
    }
  }
  return ports;
}
