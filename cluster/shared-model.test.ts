import { expect, test } from "vitest";
import { ingress, modelOf, service, slice } from "../tests/cluster-model.ts";
import { shareModel } from "./shared-model.ts";

function read(address: string, ...more: readonly string[]) {
  return modelOf(
    ingress("shop/web", { rules: { h: ["/ web:80"] } }),
    ...more.map((name) => ingress(`shop/${name}`)),
    service("shop/web", ["80"]),
    slice("shop/web", ["80"], [address]),
  );
}

test("what means the same is the very same object, map by map; the rest is as it came", () => {
  const first = shareModel(undefined, read("10.0.0.1"));
  const second = shareModel(first, read("10.0.0.2", "new"));
  expect(second.services).toBe(first.services);
  expect(second.ingresses.get("shop/web")).toBe(first.ingresses.get("shop/web"));
  expect(new Map(second.ingresses)).toEqual(read("10.0.0.2", "new").ingresses);
  expect(new Map(second.endpointSlices)).toEqual(read("10.0.0.2", "new").endpointSlices);
  const third = shareModel(second, read("10.0.0.2"));
  expect([...third.ingresses.keys()]).toEqual(["shop/web"]);
  expect(third.endpointSlices).toBe(second.endpointSlices);
});
