import { afterEach, expect, test, vi } from "vitest";
import { connectKubernetes } from "./api.ts";

afterEach(() => {
  vi.unstubAllEnvs();
});

test.each([
  ["", "6443"],
  ["https://api.example.com", "6443"],
  ["api.example.com", "six"],
])("a Pod whose API server is %j, port %j, says which variables name it", (host, port) => {
  vi.stubEnv("KUBECONFIG", "");
  vi.stubEnv("KUBERNETES_SERVICE_HOST", host);
  vi.stubEnv("KUBERNETES_SERVICE_PORT", port);
  expect(() => connectKubernetes({})).toThrow(
    `KUBERNETES_SERVICE_HOST ${JSON.stringify(host)} and KUBERNETES_SERVICE_PORT ${JSON.stringify(port)} are no address of an API server: set them to what kubelets dial, or name a kubeconfig with --kubeconfig.`,
  );
});
