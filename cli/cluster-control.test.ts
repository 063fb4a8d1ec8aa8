/** What `fairlead control` says to flags that make no sense together. */

import { expect, test } from "vitest";
import { createLog } from "../control/log.ts";
import { type ClusterFlags, connectCluster } from "./cluster-control.ts";

const BASE: ClusterFlags = { clusterName: "default", leaseDuration: 15, events: true };
const log = createLog("json", () => {});

test("without a word of a cluster there is none", async () => {
  expect(await connectCluster(BASE, {}, log)).toBeUndefined();
});

test.each([
  [{ lease: "fairlead/control" }, "--lease needs --kubernetes."],
  [{ edgeAddress: ["edge.example.com"] }, "--edge-address needs --kubernetes."],
  [{ ingressSelector: "a=b" }, "--ingress-selector needs --kubernetes."],
  [{ kubernetes: true, clusterName: "No" }, '--cluster-name takes a DNS label, not "No".'],
  [{ kubernetes: true, lease: "control" }, '--lease takes namespace/name, not "control".'],
  [{ kubeconfig: "/nowhere/kubeconfig" }, /^The kubeconfig cannot be read: ENOENT/],
] as const)("%o", async (flags, sentence) => {
  await expect(connectCluster({ ...BASE, ...flags }, {}, log)).rejects.toThrow(sentence);
});
