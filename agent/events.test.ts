import { expect, test } from "vitest";
import type { ApiRequest } from "../cluster/watch/api.ts";
import { createEventTeller, type NodeEvent } from "./events.ts";

const REFUSED: NodeEvent = {
  about: { kind: "Node", name: "n1" },
  reason: "RulesNotApplied",
  message: "nft refused the transaction: No space left on device.",
};

test("an Event of the node, once in ten minutes however often it happens", async () => {
  const requests: ApiRequest[] = [];
  let now = Date.parse("2026-01-02T03:04:05.678Z");
  const request = async (asked: ApiRequest): Promise<unknown> => requests.push(asked);
  const { tell } = createEventTeller({ request }, "n1", () => now);
  tell(REFUSED);
  tell(REFUSED);
  expect(requests).toHaveLength(1);
  expect(requests[0]).toMatchObject({
    method: "POST",
    path: "/api/v1/namespaces/default/events",
    body: {
      involvedObject: { apiVersion: "v1", kind: "Node", name: "n1", uid: "n1" },
      type: "Warning",
      reason: "RulesNotApplied",
      message: REFUSED.message,
      source: { component: "fairlead-agent", host: "n1" },
      firstTimestamp: "2026-01-02T03:04:05Z",
    },
  });
  now += 600_000;
  tell(REFUSED);
  expect(requests).toHaveLength(2);
});

test("of a Service in its namespace; what was not taken is told again", async () => {
  const paths: string[] = [];
  const request = async ({ path }: ApiRequest): Promise<unknown> => {
    paths.push(path);
    throw new Error("403");
  };
  const { tell } = createEventTeller({ request }, "n1");
  const event: NodeEvent = {
    about: { kind: "Service", name: "shop/web", uid: "u" },
    reason: "FailedToStartServiceHealthcheck",
    message: "healthCheckNodePort 31999 cannot be listened to.",
  };
  tell(event);
  await new Promise((resolve) => setImmediate(resolve));
  tell(event);
  expect(paths).toEqual(["/api/v1/namespaces/shop/events", "/api/v1/namespaces/shop/events"]);
});
