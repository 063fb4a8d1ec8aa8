/** What tests inside workerd see of `wrangler.toml` and of the Worker under test. */

declare namespace Cloudflare {
  interface Env {
    readonly SHARDS: KVNamespace;
    readonly POINTER: KVNamespace;
    readonly LIMITER: DurableObjectNamespace<import("../../worker/limits/limiter-object.ts").Limiter>;
  }
  interface GlobalProps {
    mainModule: typeof import("../../worker/index.ts");
  }
}
