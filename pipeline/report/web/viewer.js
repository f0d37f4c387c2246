// The turnable surface of the report: panels side by side, one camera, one colour scale.
//
// The page holds <script type="application/json" id="scene"> with
//   { up, view, panels: [{ name, parts: {key: {points, origin, step, triangles, fields: {name: base64 float32}}},
//                          marks: [{text, at}] }],
//     fields: [{ key, part, label, unit, low, high, ticks, clipped, colours: base64 of 256 RGB bytes }] }
// and <figure id="viewer"> with a canvas, buttons and a legend. Colours are looked up per pixel in the same 256
// colours that paint the legend, and are not shaded except in a thin rim where the surface turns away.
import {
  AmbientLight, Box3, CanvasTexture, Color, ColorManagement, DataTexture, DirectionalLight, BufferAttribute, BufferGeometry,
  DoubleSide, LinearFilter, LinearSRGBColorSpace, Mesh, MeshLambertMaterial, NoColorSpace, OrthographicCamera,
  RGBAFormat, Scene, ShaderMaterial, Sprite, SpriteMaterial, UnsignedByteType, Vector3, WebGLRenderer,
} from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";

ColorManagement.enabled = false; // colours pass as written: the surface has the legend's
const GREY = 0xc9c4bc;
const BACKGROUND = 0xffffff;

function bytes(text) {
  const raw = atob(text);
  const out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

function geometry(part) {
  const steps = new Uint16Array(bytes(part.points).buffer);
  const points = new Float32Array(steps.length);
  for (let i = 0; i < steps.length; i++) points[i] = part.origin[i % 3] + part.step * steps[i];
  const made = new BufferGeometry();
  made.setAttribute("position", new BufferAttribute(points, 3));
  made.setIndex(new BufferAttribute(new Uint32Array(bytes(part.triangles).buffer), 1));
  made.computeVertexNormals();
  return made;
}

function table(text) {
  const rgb = bytes(text);
  const rgba = new Uint8Array(256 * 4);
  for (let i = 0; i < 256; i++) rgba.set([rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2], 255], 4 * i);
  const texture = new DataTexture(rgba, 256, 1, RGBAFormat, UnsignedByteType);
  texture.colorSpace = NoColorSpace;
  texture.minFilter = texture.magFilter = LinearFilter;
  texture.needsUpdate = true;
  return texture;
}

function coloured(field) {
  return new ShaderMaterial({
    side: DoubleSide,
    uniforms: { colours: { value: table(field.colours) }, low: { value: field.low }, high: { value: field.high } },
    vertexShader: `
      attribute float value; varying float v; varying vec3 n;
      void main() { v = value; n = normalMatrix * normal;
        gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0); }`,
    fragmentShader: `
      uniform sampler2D colours; uniform float low; uniform float high; varying float v; varying vec3 n;
      void main() {
        float t = clamp((v - low) / max(high - low, 1e-30), 0.0, 1.0);
        vec3 colour = texture2D(colours, vec2((t * 255.0 + 0.5) / 256.0, 0.5)).rgb;
        float facing = abs(normalize(n).z);
        gl_FragColor = vec4(colour * mix(0.35, 1.0, smoothstep(0.0, 0.3, facing)), 1.0);
      }`,
  });
}

function label(text, size) {
  const canvas = document.createElement("canvas");
  canvas.width = 256; canvas.height = 64;
  const pen = canvas.getContext("2d");
  pen.font = "600 36px system-ui, sans-serif";
  const width = Math.min(240, pen.measureText(text).width + 24);
  pen.fillStyle = "rgba(255,255,255,0.88)";
  pen.strokeStyle = "#222"; pen.lineWidth = 3;
  pen.beginPath(); pen.roundRect(4, 6, width, 52, 12); pen.fill(); pen.stroke();
  pen.fillStyle = "#111"; pen.textAlign = "center"; pen.textBaseline = "middle";
  pen.fillText(text, 4 + width / 2, 33, 226);
  const texture = new CanvasTexture(canvas);
  texture.colorSpace = NoColorSpace;
  const sprite = new Sprite(new SpriteMaterial({ map: texture, depthTest: false, transparent: true }));
  sprite.scale.set(size, size / 4, 1);
  sprite.center.set(-0.12, 0.5); // beside the place, not over it
  return sprite;
}

class Panel {
  constructor(data, extent) {
    this.scene = new Scene();
    this.scene.background = new Color(BACKGROUND);
    this.parts = {};
    this.data = data;
    for (const [key, part] of Object.entries(data.parts)) {
      this.parts[key] = new Mesh(geometry(part), new MeshLambertMaterial({ color: GREY, side: DoubleSide }));
      this.scene.add(this.parts[key]);
    }
    for (const mark of data.marks) {
      const sprite = label(mark.text, extent * 0.16);
      sprite.position.set(...mark.at);
      this.scene.add(sprite);
    }
    this.light = new DirectionalLight(0xffffff, 2.7);
    this.scene.add(this.light, this.light.target, new AmbientLight(0xffffff, 0.9));
  }

  show(field, material) {
    for (const [key, mesh] of Object.entries(this.parts)) mesh.visible = key === (field ? field.part : Object.keys(this.parts)[0]);
    if (!field || !this.parts[field.part]) return;
    const values = this.data.parts[field.part].fields[field.key];
    const mesh = this.parts[field.part];
    mesh.visible = Boolean(values);
    if (!values) return;
    mesh.geometry.setAttribute("value", new BufferAttribute(new Float32Array(bytes(values).buffer), 1));
    mesh.material = material;
  }
}

function paintLegend(figure, field) {
  const legend = figure.querySelector(".legend");
  legend.hidden = !field;
  if (!field) return;
  const bar = legend.querySelector("canvas");
  bar.width = 256; bar.height = 1;
  const pen = bar.getContext("2d");
  const image = pen.createImageData(256, 1);
  const rgb = bytes(field.colours);
  for (let i = 0; i < 256; i++) image.data.set([rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2], 255], 4 * i);
  pen.putImageData(image, 0, 0);
  legend.querySelector(".legend-title").textContent = `${field.label}, ${field.unit}`;
  const ticks = legend.querySelector(".legend-ticks");
  ticks.replaceChildren(...field.ticks.map((tick) => {
    const mark = document.createElement("span");
    mark.textContent = tick.text;
    mark.style.left = `${100 * tick.at}%`;
    return mark;
  }));
  legend.querySelector(".legend-note").textContent = field.clipped;
}

function start(figure, data) {
  const canvas = figure.querySelector("canvas.view");
  const renderer = new WebGLRenderer({ canvas, antialias: true, preserveDrawingBuffer: true });
  renderer.outputColorSpace = LinearSRGBColorSpace;
  renderer.setScissorTest(true);
  const box = new Box3();
  for (const panel of data.panels) {
    for (const part of Object.values(panel.parts)) {
      const low = new Vector3(...part.origin);
      box.expandByPoint(low).expandByPoint(new Vector3(...part.size).add(low));
    }
  }
  const centre = box.getCenter(new Vector3());
  const extent = box.getSize(new Vector3()).length();
  const panels = data.panels.map((panel) => new Panel(panel, extent));
  const camera = new OrthographicCamera(-1, 1, 1, -1, 0.01 * extent, 10 * extent);
  camera.up.set(...data.up);
  const controls = new OrbitControls(camera, canvas);
  const back = new Vector3(...data.view);

  let columns = 1;
  let field = null;
  const draw = () => {
    const rows = Math.ceil(panels.length / columns);
    const [w, h] = [canvas.clientWidth / columns, canvas.clientHeight / rows];
    const half = 0.5 * fit;
    camera.left = -half * (w / h); camera.right = half * (w / h); camera.top = half; camera.bottom = -half;
    camera.updateProjectionMatrix();
    panels.forEach((panel, i) => {
      const [x, y] = [(i % columns) * w, canvas.clientHeight - (Math.floor(i / columns) + 1) * h];
      renderer.setViewport(x, y, w, h);
      renderer.setScissor(x, y, w, h);
      panel.light.position.copy(camera.position);
      panel.light.target.position.copy(controls.target);
      renderer.render(panel.scene, camera);
    });
  };
  let fit = extent;
  const reset = () => {
    camera.zoom = 1;
    camera.position.copy(centre).addScaledVector(back, 3 * extent);
    controls.target.copy(centre);
    controls.update();
    camera.updateMatrixWorld();
    // Smallest height that shows the whole box from here.
    const corners = [0, 1, 2, 3, 4, 5, 6, 7].map((c) => new Vector3(
      c & 1 ? box.max.x : box.min.x, c & 2 ? box.max.y : box.min.y, c & 4 ? box.max.z : box.min.z,
    ).applyMatrix4(camera.matrixWorldInverse));
    const wide = Math.max(...corners.map((p) => Math.abs(p.x))) * 2;
    const high = Math.max(...corners.map((p) => Math.abs(p.y))) * 2;
    const rows = Math.ceil(panels.length / columns);
    const aspect = (canvas.clientWidth / columns) / (canvas.clientHeight / rows);
    fit = 1.06 * Math.max(high, wide / aspect);
    draw();
  };
  const resize = () => {
    columns = Math.max(1, Math.min(panels.length, Math.floor(canvas.clientWidth / 240)));
    canvas.style.height = `${Math.ceil(panels.length / columns) * 520}px`;
    renderer.setPixelRatio(Math.min(window.devicePixelRatio || 1, 2));
    renderer.setSize(canvas.clientWidth, canvas.clientHeight, false);
    const titles = figure.querySelector(".panel-titles");
    titles.style.gridTemplateColumns = `repeat(${columns}, 1fr)`;
    titles.replaceChildren(...data.panels.map((panel) => {
      const title = document.createElement("span");
      title.textContent = panel.name;
      return title;
    }));
    titles.hidden = panels.length < 2;
    reset();
  };
  const choose = (next) => {
    field = next;
    const material = field ? coloured(field) : null;
    panels.forEach((panel) => panel.show(field, material));
    paintLegend(figure, field);
    figure.querySelectorAll(".fields button").forEach((button) => {
      button.setAttribute("aria-pressed", String(field && button.dataset.field === field.key));
    });
    draw();
  };
  const bar = figure.querySelector(".fields");
  bar.replaceChildren(...data.fields.map((f) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = f.label;
    button.dataset.field = f.key;
    button.addEventListener("click", () => choose(f));
    return button;
  }));
  const again = document.createElement("button");
  again.type = "button";
  again.textContent = "Reset view";
  again.className = "quiet";
  again.addEventListener("click", reset);
  bar.append(again);

  controls.addEventListener("change", draw);
  canvas.addEventListener("keydown", (event) => {
    const turn = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const zoom = { "+": 1.15, "=": 1.15, "-": 1 / 1.15 }[event.key];
    if (zoom) camera.zoom *= zoom;
    if (turn) {
      const arm = camera.position.clone().sub(controls.target);
      const side = new Vector3().crossVectors(camera.up, arm).normalize();
      arm.applyAxisAngle(camera.up, turn[0] * 0.12).applyAxisAngle(side, turn[1] * 0.12);
      camera.position.copy(controls.target).add(arm);
    }
    if (!zoom && !turn) return;
    event.preventDefault();
    controls.update();
    draw();
  });
  new ResizeObserver(() => {
    if (Math.abs(renderer.domElement.width - canvas.clientWidth * renderer.getPixelRatio()) > 1) resize();
  }).observe(canvas);
  resize();
  choose(data.fields[0] || null);
  figure.dataset.ready = "true";
}

const holder = document.getElementById("scene");
const figure = document.getElementById("viewer");
if (holder && figure) {
  try {
    start(figure, JSON.parse(holder.textContent));
  } catch (error) {
    figure.dataset.ready = "failed";
    figure.querySelector(".no-view").hidden = false;
    console.error(error);
  }
}
