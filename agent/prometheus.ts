/** Metrics in Prometheus' text format (version 0.0.4). Series appear with their first value, or with a preset one. */

export type Labels = Readonly<Record<string, string>>;

export interface Counter {
  readonly add: (amount: number, labels?: Labels) => void;
}

export interface Gauge {
  readonly set: (value: number, labels?: Labels) => void;
}

/** Counted by somebody else (the kernel): told as a whole. */
export interface Collected {
  readonly replace: (series: Iterable<readonly [Labels, number]>) => void;
}

export interface Histogram {
  readonly observe: (value: number, labels?: Labels) => void;
  /** The series is there with a count of 0, so that a rate over it is 0 and not unknown. */
  readonly preset: (labels?: Labels) => void;
}

export interface Registry {
  readonly counter: (name: string, help: string) => Counter;
  readonly gauge: (name: string, help: string) => Gauge;
  readonly collected: (name: string, help: string) => Collected;
  /** `bounds` ascend; `+Inf` is added. */
  readonly histogram: (name: string, help: string, bounds: readonly number[]) => Histogram;
  /** Called before every text, to set what is only known when it is asked for. */
  readonly beforeText: (update: () => void) => void;
  readonly text: () => string;
}

export function createRegistry(): Registry {
  const families: (() => readonly string[])[] = [];
  const updates: (() => void)[] = [];
  const family = (name: string, type: string, help: string, lines: () => readonly string[]): void => {
    families.push(() => [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines()]);
  };
  const plain = (name: string, type: "counter" | "gauge", help: string): Map<string, number> => {
    const values = new Map<string, number>();
    family(name, type, help, () => [...values].map(([labels, value]) => `${name}${labels} ${value}`));
    return values;
  };
  return {
    counter: (name, help) => {
      const values = plain(name, "counter", help);
      return {
        add: (amount, labels = {}) => {
          const key = printLabels(labels);
          values.set(key, (values.get(key) ?? 0) + amount);
        },
      };
    },
    gauge: (name, help) => {
      const values = plain(name, "gauge", help);
      return { set: (value, labels = {}) => void values.set(printLabels(labels), value) };
    },
    collected: (name, help) => {
      const values = plain(name, "counter", help);
      return {
        replace: (series) => {
          values.clear();
          for (const [labels, value] of series) values.set(printLabels(labels), value);
        },
      };
    },
    histogram: (name, help, bounds) => {
      const series = new Map<string, { labels: Labels; counts: number[]; sum: number; count: number }>();
      family(name, "histogram", help, () =>
        [...series.values()].flatMap(({ labels, counts, sum, count }) => [
          ...bounds.map(
            (bound, at) => `${name}_bucket${printLabels({ ...labels, le: String(bound) })} ${counts[at]}`,
          ),
          `${name}_bucket${printLabels({ ...labels, le: "+Inf" })} ${count}`,
          `${name}_sum${printLabels(labels)} ${sum}`,
          `${name}_count${printLabels(labels)} ${count}`,
        ]),
      );
      const of = (labels: Labels) => {
        const key = printLabels(labels);
        const one = series.get(key) ?? { labels, counts: bounds.map(() => 0), sum: 0, count: 0 };
        series.set(key, one);
        return one;
      };
      return {
        preset: (labels = {}) => void of(labels),
        observe: (value, labels = {}) => {
          const one = of(labels);
          one.sum += value;
          one.count++;
          for (const [at, bound] of bounds.entries())
            if (value <= bound) one.counts[at] = (one.counts[at] ?? 0) + 1;
        },
      };
    },
    beforeText: (update) => void updates.push(update),
    text: () => {
      for (const update of updates) update();
      return `${families.flatMap((lines) => lines()).join("\n")}\n`;
    },
  };
}

function printLabels(labels: Labels): string {
  const parts = Object.entries(labels).map(([name, value]) => {
    const escaped = value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
    return `${name}="${escaped}"`;
  });
  return parts.length === 0 ? "" : `{${parts.join(",")}}`;
}
