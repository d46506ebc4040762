// Curves over time or steps: uPlot in the page's own colours, which follow light and dark.

const COLOURS = ["--read", "--made", "--cached", "--soft"];
const HEIGHT = 200;

export class Chart {
  // `names`: of the curves. `time`: the horizontal axis is seconds since 1970; else steps.
  constructor(box, names, { time }) {
    Object.assign(this, { box, names, time, data: [[], ...names.map(() => [])] });
    new ResizeObserver(() => this.plot?.setSize({ width: this.width, height: HEIGHT })).observe(box);
    document.addEventListener("repaint", () => this.draw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  get width() {
    return Math.max(this.box.clientWidth, 200);
  }

  set(data) {
    this.data = data;
    if (this.plot) this.plot.setData(data);
    else this.draw();
  }

  draw() {
    this.plot?.destroy();
    this.plot = null;
    if (!this.box.clientWidth) return; // it is not shown; the next data draw it
    const style = getComputedStyle(document.documentElement);
    const probe = document.createElement("i");
    this.box.append(probe);
    const colour = (name) => {
      probe.style.color = `var(${name})`;
      return getComputedStyle(probe).color;
    };
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") }, font: `12px ${style.fontFamily || "sans-serif"}` };
    const value = (_, number) => (number == null ? "–" : Number(number.toPrecision(3)).toString());
    // Below the curves stand the values under the pointer, or else the last ones.
    const latest = (plot) => plot.cursor.left >= 0 || plot.setLegend({ idx: plot.data[0].length - 1 }, false);
    const options = {
      hooks: { draw: [(plot) => queueMicrotask(() => latest(plot))] },
      width: this.width,
      height: HEIGHT,
      scales: { x: { time: this.time }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), high > 0 ? high * 1.1 : 1] } },
      axes: [axis, { ...axis, size: 54 }],
      series: [
        this.time ? {} : { label: "step" },
        ...this.names.map((name, place) => ({
          label: name, value, width: 2, stroke: colour(COLOURS[place % COLOURS.length]), spanGaps: !this.time, points: { show: !this.time },
        })),
      ],
    };
    probe.remove();
    this.plot = new uPlot(options, this.data, this.box);
  }
}
