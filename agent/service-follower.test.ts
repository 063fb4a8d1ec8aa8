import { expect, test } from "vitest";
import { buildClusterModel } from "../cluster/build.ts";
import { readManifestText } from "../cluster/files.ts";
import { ModelDifference } from "./object-changes.ts";
import { ServiceFollower } from "./service-follower.ts";

const slice = (name: string, addressType: string, time: string) => `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: ${name}
  namespace: shop
  labels: { kubernetes.io/service-name: web }
  annotations: { endpoints.kubernetes.io/last-change-trigger-time: "${time}" }
addressType: ${addressType}
ports: [{ port: 80 }]
endpoints: [{ addresses: ["${addressType === "IPv6" ? "fd00::1" : "10.180.0.1"}"] }]
---`;

test("the time of a change is that of the slice's family", () => {
  const manifest =
    slice("web-4", "IPv4", "2026-11-23T06:00:00Z") + slice("web-6", "IPv6", "2026-11-23T06:00:01Z");
  const { model } = buildClusterModel(readManifestText(manifest, "test").objects);
  const follower = new ServiceFollower({ node: "n1", updateUdp: () => {} });
  follower.take(model, new ModelDifference("n1", []).take(model), []);
  const [v4, v6] = [
    { family: "IPv4", atMs: Date.parse("2026-11-23T06:00:00Z") },
    { family: "IPv6", atMs: Date.parse("2026-11-23T06:00:01Z") },
  ];
  expect(follower.takeTriggerTimes(["IPv4"])).toEqual([v4]);
  expect(follower.takeTriggerTimes(["IPv4", "IPv6"])).toEqual([v6]);
  expect(follower.takeTriggerTimes(["IPv4", "IPv6"])).toEqual([]);
});
