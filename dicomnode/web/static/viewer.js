// The viewer of a case: MR, synthetic CT, both fused, and the uncertainty, in three planes. NiiVue draws them (WebGL 2);
// a browser without WebGL 2 shows a still picture. Research, not for clinical use.
"use strict";

(() => {
  const NAMES = { ct: "synthetic CT", mr: "MR", uncertainty: "uncertainty" };
  const ORDER = ["ct", "mr", "uncertainty"];      // the first defines the grid; the others are drawn over it
  const UNCERTAINTY_HU = [0, 150];                // shown dark, and shown bright
  const PLANES = ["sagittal", "coronal", "axial"]; // NiiVue's axes: right, anterior, superior

  const root = document.getElementById("viewer");
  if (!root) return;
  const part = (id) => document.getElementById(id);
  const message = part("message");
  const base = `/jobs/${root.dataset.job}/`;
  const loaded = {};                              // name -> NiiVue's volume
  let nv = null;
  let view = "";

  function say(text) {
    message.textContent = text;
  }

  /** Show a still picture in place of the viewer, and the reason. */
  function still(why) {
    root.hidden = true;
    root.dataset.state = "still";
    say(why);
    if (!document.querySelector("img.still") && available().includes("ct")) {
      const image = document.createElement("img");
      image.className = "still";
      image.alt = "Axial, coronal and sagittal planes through the middle: MR, synthetic CT, both";
      image.src = `${base}pictures.png`;
      root.after(image);
    }
  }

  /** List the names of the volumes that the node has. */
  function available() {
    return ORDER.filter((name) => part("volumes").dataset.have.split(" ").includes(name));
  }

  async function start() {
    const probe = document.createElement("canvas").getContext("webgl2");
    if (!probe || !window.niivue) {
      still("This browser has no WebGL 2, so there is a still picture only.");
      return;
    }
    probe.getExtension("WEBGL_lose_context")?.loseContext();
    root.hidden = false;
    root.dataset.state = "loading";
    const options = {
      isRadiologicalConvention: true, sagittalNoseLeft: true, showAllOrientationMarkers: true,
      dragAndDropEnabled: false, viewModeHotKey: "", clipPlaneHotKey: "", logLevel: "error", loadingText: "",
      multiplanarShowRender: niivue.SHOW_RENDER.NEVER, multiplanarPadPixels: 4, dragMode: niivue.DRAG_MODE.pan,
      backColor: [0, 0, 0, 1], fontColor: [0.94, 0.89, 0.26, 1], fontMinPx: 18, isCornerOrientationText: true,
      crosshairColor: [0.94, 0.89, 0.26, 0.7], crosshairWidth: 0.6, crosshairWidthUnit: "mm", crosshairGap: 8,
      isColorbar: false, show3Dcrosshair: false, isForceMouseClickToVoxelCenters: true,
    };
    nv = new niivue.Niivue(options);
    nv.onLocationChange = showLocation;
    await nv.attachToCanvas(part("canvas"));
    part("canvas").addEventListener("webglcontextlost", () => still("The graphics of this browser failed."));
    nv.setSliceType(niivue.SLICE_TYPE.MULTIPLANAR);
    await load();
    new MutationObserver(load).observe(part("state"), { attributes: true, childList: true, subtree: true });
  }

  let busy = false;

  /** Load the volumes that are new, one after the other; report those that cannot be loaded. */
  async function load() {
    if (busy) return;
    busy = true;
    try {
      for (const name of available().filter((one) => !(one in loaded))) await loadOne(name);
      if (!message.dataset.failed) say("");
      root.dataset.state = "ready";
    } finally {
      busy = false;
    }
  }

  async function loadOne(name) {
    say(`Loading the ${NAMES[name]} …`);
    const answer = await fetch(`${base}${name}.nii.gz`);
    if (!answer.ok || answer.redirected) {
      loaded[name] = null;
      message.dataset.failed = name;
      say(`The ${NAMES[name]} cannot be shown. ${answer.redirected ? "Sign in again." : await answer.text()}`);
      return;
    }
    const buffer = await answer.arrayBuffer();
    await nv.loadFromArrayBuffer(buffer, `${name}.nii.gz`);
    const volume = nv.volumes[nv.volumes.length - 1];
    loaded[name] = volume;
    for (const choice of root.querySelectorAll("[name=view]")) choice.disabled = !possible(choice.value);
    if (name === "ct" && nv.volumes.length > 1) nv.setVolume(volume, 0);   // it was loaded later, but must be the first
    if (nv.volumes[0] === volume) limits();
    choose(possible("fused") ? "fused" : name);
  }

  /** Return whether all volumes of a view are loaded. */
  function possible(one) {
    const needs = { mr: ["mr"], ct: ["ct"], fused: ["mr", "ct"], uncertainty: ["ct", "uncertainty"] }[one];
    return needs.every((name) => loaded[name]);
  }

  /** Show a view: its volumes, colours and opacities. */
  function choose(one) {
    view = one;
    root.querySelector(`[name=view][value=${one}]`).checked = true;
    const over = one === "fused" || one === "uncertainty";
    part("overlay").disabled = !over;
    part("overlay").previousSibling.textContent = one === "uncertainty" ? "CT " : "MR ";
    part("overlay").nextSibling.textContent = one === "uncertainty" ? " uncertainty" : " CT";
    draw();
  }

  function draw() {
    const share = part("overlay").value / 100;
    const opacities = {
      mr: { mr: 1 }, ct: { ct: 1 }, fused: { ct: 1, mr: 1 - share }, uncertainty: { ct: 1, uncertainty: share },
    }[view];
    for (const [name, volume] of Object.entries(loaded)) {
      if (!volume) continue;
      const [low, high] = windowOf(name, volume);
      volume.colormap = name === "uncertainty" ? "viridis" : name === "ct" && view === "fused" ? "copper" : "gray";
      Object.assign(volume, { cal_min: low, cal_max: high });   // after the colours, which set another window
      volume.opacity = opacities[name] ?? 0;
      volume.colorbarVisible = name === "uncertainty";
    }
    nv.opts.isColorbar = view === "uncertainty";
    nv.updateGLVolume();
    nv.createOnLocationChange();
    root.dataset.view = view;
  }

  /** Return the values that are shown black and white. */
  function windowOf(name, volume) {
    if (name === "uncertainty") return UNCERTAINTY_HU;
    if (name === "ct") return [Number(part("low").value), Number(part("high").value)];
    const high = part("mr-window").value === "all" ? volume.global_max : volume.robust_max;
    return [-high / 100, high];                   // NiiVue draws the darkest colour of an overlay transparent: no value has it
  }

  /** Set the ends of the sliders and move the crosshair to the centre of a voxel; one step is one slice. */
  function limits() {
    PLANES.forEach((plane, axis) => {
      part(plane).max = nv.volumes[0].dimsRAS[axis + 1] - 1;
    });
    follow();
    PLANES.forEach((_, axis) => move(axis));
  }

  /** Move the sliders to the crosshair. */
  function follow() {
    PLANES.forEach((plane, axis) => {
      const size = nv.volumes[0].dimsRAS[axis + 1];
      part(plane).value = Math.min(Math.floor(nv.scene.crosshairPos[axis] * size), size - 1);
    });
  }

  /** Move the crosshair to the slider of an axis. */
  function move(axis) {
    const size = nv.volumes[0].dimsRAS[axis + 1];
    nv.scene.crosshairPos[axis] = (Number(part(PLANES[axis]).value) + 0.5) / size;
    nv.drawScene();
    nv.createOnLocationChange();
  }

  /** Show the position of the crosshair (LPS, mm) and the values of the volumes there. */
  function showLocation(location) {
    const letters = [["L", "R"], ["P", "A"], ["I", "S"]];
    const place = [0, 1, 2].map((axis) => {
      const mm = location.mm[axis];
      return `${letters[axis][mm >= 0 ? 1 : 0]} ${Math.abs(mm).toFixed(1)}`;
    });
    const values = ORDER.filter((name) => loaded[name]).map((name) => {
      const found = location.values.find((one) => one.id === loaded[name].id);
      const unit = { ct: " HU", mr: "", uncertainty: " HU" }[name];
      return `${name === "ct" ? "CT" : NAMES[name]} ${found ? Math.round(found.value) + unit : "–"}`;
    });
    part("place").textContent = `${place.join(", ")} mm: ${values.join(", ")}`;
    follow();
  }

  function preset() {
    const chosen = part("window").value;
    if (chosen) [part("low").value, part("high").value] = chosen.split(" ");
    if (view) draw();
  }

  function own() {
    const pair = `${part("low").value} ${part("high").value}`;
    const same = [...part("window").options].find((option) => option.value === pair);
    part("window").value = same ? pair : "";
    if (view && Number(part("low").value) < Number(part("high").value)) draw();
  }

  for (const choice of root.querySelectorAll("[name=view]")) choice.addEventListener("change", () => choose(choice.value));
  part("overlay").addEventListener("input", draw);
  part("window").addEventListener("change", preset);
  for (const id of ["low", "high"]) part(id).addEventListener("change", own);
  part("mr-window").addEventListener("change", draw);
  part("planes").addEventListener("change", () => {
    const types = niivue.SLICE_TYPE;
    nv.setSliceType({ three: types.MULTIPLANAR, axial: types.AXIAL, coronal: types.CORONAL, sagittal: types.SAGITTAL }[part("planes").value]);
  });
  PLANES.forEach((plane, axis) => part(plane).addEventListener("input", () => move(axis)));
  preset();
  start().catch((error) => still(`The viewer failed: ${error.message}.`));
})();
