// Runs the program of a network: a list of operations, as `Graph.operations()` of hushwork writes it.
//
// Running a frame allocates nothing; what depends on constants alone is computed once.

import { array, OPERATIONS } from "./operations.js";
import { Products } from "./products.js";

/** Compiles nodes into a list of functions; `values` (name → array) receives what they make. */
function compile(nodes, values, products) {
  const steps = [];
  for (const node of nodes) {
    const inputs = node.inputs.map((name) => (name ? values.get(name) : undefined));
    let made;
    if (node.op === "If") {
      made = choose(inputs[0], node.attributes, values, products);
    } else {
      if (!(node.op in OPERATIONS)) throw new Error(`the program has the operation ${node.op}, which is not known here`);
      made = OPERATIONS[node.op](inputs, node.attributes, products);
    }
    if (made.run && inputs.every((x) => !x || x.constant)) {
      made.run();
      made.values = made.values.map((x) => array(x.dims, x.data, true));
    } else if (made.run) {
      steps.push(made.run);
    }
    const names = node.outputs.filter(Boolean);
    const given = made.values.slice(made.values.length - names.length);
    names.forEach((name, k) => values.set(name, given[k]));
  }
  return steps;
}

function choose(condition, { then_branch, else_branch }, values, products) {
  const branches = [then_branch, else_branch].map((block) => {
    const steps = compile(block.nodes, values, products);
    return { steps, results: block.outputs.map((name) => values.get(name)) };
  });
  const made = branches[0].results.map((x) => array(x.dims));
  return {
    values: made,
    run() {
      const { steps, results } = branches[condition.data[0] ? 0 : 1];
      for (let k = 0; k < steps.length; k++) steps[k]();
      for (let k = 0; k < made.length; k++) made[k].data.set(results[k].data);
    },
  };
}

/** The network, frame by frame. One program serves several streams, each with a state of its own. */
export class FrameProgram {
  /**
   * @param {object} program inputs, outputs and nodes, as `Graph.operations()` of hushwork gives them
   * @param {Map<string, {dims: number[], data: Float32Array}>} constants
   */
  constructor(program, constants) {
    const values = new Map();
    for (const [name, { dims, data }] of constants) values.set(name, array(dims, data, true));
    for (const [name, dims] of Object.entries(program.inputs)) values.set(name, array(dims));
    const size = [...constants.values()].reduce((sum, { data }) => sum + data.length, 0);
    this.steps = compile(program.nodes, values, new Products(size));
    [this.spectrum, this.state] = ["spec", "state"].map((name) => values.get(name).data);
    [this.clean, this.stateAfter] = ["spec_e", "state_out"].map((name) => values.get(name).data);
  }

  /** A stream's state before its first frame. */
  initialState() {
    return new Float32Array(this.state.length);
  }

  /**
   * One frame: noisy spectrum → clean spectrum, pairs of real and imaginary parts; `state` is advanced in place.
   * @returns {Float32Array} overwritten by the next frame
   */
  run(spectrum, state) {
    this.spectrum.set(spectrum);
    this.state.set(state);
    for (let k = 0; k < this.steps.length; k++) this.steps[k]();
    state.set(this.stateAfter);
    return this.clean;
  }
}
