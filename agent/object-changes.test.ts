import { expect, test } from "vitest";
import { buildClusterModel } from "../cluster/build.ts";
import { readManifestText } from "../cluster/files.ts";
import type { KubernetesObject } from "../cluster/model.ts";
import { isEmptyChange, ModelDifference, type ObjectChanges } from "./object-changes.ts";

function objects(text: string): readonly KubernetesObject[] {
  return readManifestText(text, "test").objects;
}

function service(name: string): string {
  return `
apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop }
spec: { clusterIP: 10.96.0.1, ports: [{ port: 80 }] }
---`;
}

function slice(name: string, of: string, address: string): string {
  return `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: ${name}, namespace: shop, labels: { kubernetes.io/service-name: ${of} } }
addressType: IPv4
ports: [{ port: 80 }]
endpoints: [{ addresses: [${address}] }]
---`;
}

function endpoints(name: string, address: string): string {
  return `
apiVersion: v1
kind: Endpoints
metadata: { name: ${name}, namespace: shop }
subsets: [{ addresses: [{ ip: ${address} }], ports: [{ port: 80 }] }, { addresses: [{ ip: 10.1.1.1 }], ports: [{ port: 81 }] }]
---`;
}

function told(changes: ObjectChanges) {
  const name = ({ meta }: { readonly meta: { readonly name: string } }) => meta.name;
  return {
    services: changes.services.map(name),
    deletedServices: changes.deletedServices,
    slices: changes.endpointSlices.map(name),
    deletedSlices: changes.deletedEndpointSlices,
    touched: [...changes.touched].sort(),
  };
}

const web = objects(service("web"));
const web1 = objects(slice("web-1", "web", "10.0.0.1"));
const web2 = objects(slice("web-2", "web", "10.0.0.2"));
const api = objects(service("api"));
const nothing = { services: [], deletedServices: [], slices: [], deletedSlices: [], touched: [] };

test("everything first, then what differs, by object", () => {
  const difference = new ModelDifference("n1", []);
  const take = (...parts: readonly (readonly KubernetesObject[])[]) =>
    told(difference.take(buildClusterModel(parts.flat()).model));
  expect(take(web, web1)).toEqual({
    ...nothing,
    services: ["web"],
    slices: ["web-1"],
    touched: ["shop/web"],
  });
  expect(take(web, web1)).toEqual(nothing);
  expect(take(web, web1, web2, api)).toEqual({
    ...nothing,
    services: ["api"],
    slices: ["web-2"],
    touched: ["shop/api", "shop/web"],
  });
  expect(take(web, objects(slice("web-1", "web", "10.0.0.9")), web2, api)).toEqual({
    ...nothing,
    slices: ["web-1"],
    touched: ["shop/web"],
  });
  expect(take(web, web2)).toEqual({
    ...nothing,
    deletedServices: ["shop/api"],
    deletedSlices: ["shop/web-1"],
    touched: ["shop/api", "shop/web"],
  });
  expect(take(web, objects(slice("web-2", "api", "10.0.0.2")))).toEqual({
    ...nothing,
    slices: ["web-2"],
    touched: ["shop/api", "shop/web"],
  });
  expect(take(api)).toEqual({
    services: ["api"],
    deletedServices: ["shop/web"],
    slices: [],
    deletedSlices: ["shop/web-2"],
    touched: ["shop/api", "shop/web"],
  });
});

test("slices made from Endpoints have names of their own", () => {
  const difference = new ModelDifference("n1", []);
  const first = [
    ...web,
    ...objects(endpoints("web", "10.0.0.1")),
    ...objects(slice("web", "api", "10.0.0.3")),
  ];
  expect(told(difference.take(buildClusterModel(first).model)).slices.sort()).toEqual([
    "web",
    "web:Endpoints:0",
    "web:Endpoints:1",
  ]);
  const second = [...web, ...objects(slice("web-1", "web", "10.0.0.1"))];
  expect(told(difference.take(buildClusterModel(second).model))).toEqual({
    ...nothing,
    slices: ["web-1"],
    deletedSlices: ["shop/web:Endpoints:0", "shop/web:Endpoints:1", "shop/web"],
    touched: ["shop/api", "shop/web"],
  });
});

test("this node and the ConfigMaps that were asked for; no others", () => {
  const difference = new ModelDifference("n1", ["ingress-nginx/tcp"]);
  const others = objects(`
{ apiVersion: v1, kind: Node, metadata: { name: n2 } }
---
{ apiVersion: v1, kind: ConfigMap, metadata: { name: other, namespace: ingress-nginx }, data: {} }`);
  const mine = objects(`
{ apiVersion: v1, kind: Node, metadata: { name: n1 } }
---
{ apiVersion: v1, kind: ConfigMap, metadata: { name: tcp, namespace: ingress-nginx }, data: { "1": "a/b:1" } }`);
  const model = (...parts: readonly (readonly KubernetesObject[])[]) => buildClusterModel(parts.flat()).model;
  const first = difference.take(model(others));
  expect(first.node).toBeNull();
  expect(first.configMaps).toEqual(new Map([["ingress-nginx/tcp", null]]));
  expect(isEmptyChange(difference.take(model(others)))).toBe(true);
  const second = difference.take(model(others, mine));
  expect(second.node?.meta.name).toBe("n1");
  expect(second.configMaps.get("ingress-nginx/tcp")?.data).toEqual({ "1": "a/b:1" });
  expect(isEmptyChange(difference.take(model(mine)))).toBe(true);
});
