/**
 * Endpoints of v1, the older form, as EndpointSlices: one for each subset and address family.
 *
 * Whether they count is decided in `build.ts`: a cluster mirrors one form to the other, and a dump of it holds both.
 */

import { parseIpAddress } from "../ip-address.ts";
import type { Endpoint, EndpointPort, EndpointSlice, IpFamily, ObjectMeta } from "../model.ts";
import { readEndpointPort, readPodReference } from "./endpoint-slice.ts";
import type { FieldReader } from "./field-reader.ts";
import { quote } from "./report.ts";

const KNOWN = new Set(["apiVersion", "kind", "metadata", "subsets"]);
const KNOWN_SUBSET = new Set(["addresses", "notReadyAddresses", "ports"]);
const FAMILIES: readonly IpFamily[] = ["IPv4", "IPv6"];

export function readEndpoints(root: FieldReader, meta: ObjectMeta): readonly EndpointSlice[] {
  root.knowsOnly(KNOWN);
  const slices: EndpointSlice[] = [];
  for (const [index, subset] of root.maps("subsets", "the subset is ignored").entries()) {
    subset.knowsOnly(KNOWN_SUBSET);
    const endpoints = [
      ...readAddresses(subset, "addresses", true, meta),
      ...readAddresses(subset, "notReadyAddresses", false, meta),
    ];
    const ports: EndpointPort[] = [];
    for (const reader of subset.maps("ports", "the port is ignored")) {
      const port = readEndpointPort(reader);
      if (port !== undefined) ports.push(port);
    }
    if (subset.failed) continue;
    for (const family of FAMILIES) {
      const ofFamily = endpoints
        .filter((endpoint) => endpoint.family === family)
        .map((endpoint) => endpoint.endpoint);
      if (ofFamily.length === 0) continue;
      slices.push({
        kind: "EndpointSlice",
        source: "Endpoints",
        meta: { ...meta, name: `${meta.name}-${index}-${family.toLowerCase()}` },
        serviceName: meta.name,
        addressType: family,
        ports,
        endpoints: ofFamily,
      });
    }
  }
  return root.failed ? [] : slices;
}

interface FamilyEndpoint {
  readonly family: IpFamily;
  readonly endpoint: Endpoint;
}

function readAddresses(
  subset: FieldReader,
  field: string,
  ready: boolean,
  meta: ObjectMeta,
): readonly FamilyEndpoint[] {
  const endpoints: FamilyEndpoint[] = [];
  for (const reader of subset.maps(field, "the endpoint is ignored")) {
    const text = reader.requiredText("ip");
    const address = parseIpAddress(text);
    if (text !== "" && address === undefined) reader.fail("ip", `${quote(text)} is no IP address`);
    const nodeName = reader.text("nodeName");
    const hostname = reader.text("hostname");
    const pod = readPodReference(reader, meta.namespace);
    if (reader.failed || address === undefined) continue;
    const endpoint: Endpoint = {
      addresses: [address.text],
      ready,
      serving: ready,
      terminating: false,
      ...(nodeName === undefined ? {} : { nodeName }),
      ...(hostname === undefined ? {} : { hostname }),
      hintsForZones: [],
      hintsForNodes: [],
      ...(pod === undefined ? {} : { pod }),
    };
    endpoints.push({ family: address.family, endpoint });
  }
  return endpoints;
}
