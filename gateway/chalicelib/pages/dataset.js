// --- The pictures to learn from: chosen or dropped, checked, captioned, uploaded ------------------

const CAPTION_FILES = /\.(txt|caption)$/i;
const KINDS = { "image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WebP" };
const UPLOADS_AT_ONCE = 3;
const TRIES = 3;
const LARGEST_SIDE = 3072; // pixels of a picture that had to be made smaller; models see fewer

let limits = { most: 0, types: [], largest_file: 0, largest_set: 0, most_pixels: 0 };
let pictures = []; // {id, name, blob, url, caption}
let texts = {}; // captions from files, by the name of their picture
let adding = Promise.resolve();
let changed = () => {};

const stemOf = (name) => name.replace(/\.[^.]+$/, "");
const megabytes = (bytes) => `${Math.max(bytes / 1e6, 0.1).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
const oneOf = (words) => words.join(", ").replace(/, (?=[^,]*$)/, " or ");
const kinds = () => oneOf(limits.types.map((type) => KINDS[type] ?? type));

/** Take files, one call after another, and say which of them cannot be used and why. */
function take(files) {
  adding = adding.then(() => takeAll([...files]));
  return adding;
}

async function takeAll(files) {
  const problems = [];
  for (const file of files.filter(({ name }) => CAPTION_FILES.test(name))) {
    texts[stemOf(file.name)] = (await file.text()).trim().replace(/\s+/g, " ");
  }
  for (const file of files.filter(({ name }) => !CAPTION_FILES.test(name))) {
    try {
      await takePicture(file);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      problems.push(`${file.name}: ${error.message}`);
    }
  }
  for (const picture of pictures) picture.caption ||= (texts[stemOf(picture.name)] ?? "").slice(0, limits.longest_caption);
  complain("dataset-wrong", problems.join("\n"));
  showPictures();
}

async function takePicture(file) {
  const id = `${file.name} ${file.size} ${file.lastModified}`;
  if (pictures.some((each) => each.id === id)) return;
  if (/\.hei[cf]$/i.test(file.name) || /^image\/hei[cf]/.test(file.type)) {
    throw new Problem("HEIC pictures cannot be used here. Save it as JPEG first.");
  }
  if (!limits.types.includes(file.type)) throw new Problem(`is no ${kinds()} picture.`);
  if (pictures.length >= limits.most) throw new Problem(`is one too many: there can be ${limits.most}.`);
  const image = new Image();
  const url = image.src = URL.createObjectURL(file);
  try {
    await image.decode();
  } catch {
    URL.revokeObjectURL(url);
    throw new Problem("cannot be read as a picture.");
  }
  const blob = await fitting(file, image);
  if (pictures.reduce((sum, each) => sum + each.blob.size, blob.size) > limits.largest_set) {
    URL.revokeObjectURL(url);
    throw new Problem(`is too much: all pictures together can have ${megabytes(limits.largest_set)}.`);
  }
  pictures.push({ id, name: file.name, blob, url, caption: "" });
}

/** Return the file as it is, or a smaller JPEG picture if it is larger than allowed. */
async function fitting(file, image) {
  const { naturalWidth: width, naturalHeight: height } = image;
  if (file.size <= limits.largest_file && width * height <= limits.most_pixels) return file;
  const scale = Math.min(1, LARGEST_SIDE / Math.max(width, height));
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: Math.round(width * scale), height: Math.round(height * scale) });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // JPEG has no transparency
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", 0.92); });
  if (!blob || blob.size > limits.largest_file) throw new Problem(`is larger than ${megabytes(limits.largest_file)}.`);
  return blob;
}

/** Show a card for each picture; those that are there already keep their focus. */
function showPictures() {
  const ids = new Set(pictures.map(({ id }) => id));
  for (const card of [...at("pictures").children]) if (!ids.has(card.dataset.picture)) card.remove();
  pictures.forEach((picture, index) => {
    const card = at("pictures").children[index] ?? at("pictures").appendChild(newPicture(picture));
    const caption = card.querySelector("textarea");
    caption.value = picture.caption;
    caption.setAttribute("aria-label", `Caption of ${picture.name}`);
    card.querySelector("img").alt = picture.name;
    card.querySelector(".unseen").textContent = `Remove ${picture.name}`;
  });
  const size = pictures.reduce((sum, { blob }) => sum + blob.size, 0);
  const count = `${pictures.length} ${pictures.length === 1 ? "picture" : "pictures"}`;
  at("counted").textContent = `${count}, ${megabytes(size)}`;
  at("counted").hidden = !pictures.length;
  changed();
}

function newPicture(picture) {
  const card = at("picture").content.firstElementChild.cloneNode(true);
  card.dataset.picture = picture.id;
  card.querySelector("img").src = picture.url;
  const caption = card.querySelector("textarea");
  caption.maxLength = limits.longest_caption;
  caption.addEventListener("input", () => {
    picture.caption = caption.value;
    changed();
  });
  card.querySelector(".stop").addEventListener("click", () => removePicture(picture));
  return card;
}

function removePicture(picture) {
  const place = pictures.indexOf(picture);
  pictures = pictures.filter((each) => each !== picture);
  URL.revokeObjectURL(picture.url);
  showPictures();
  (at("pictures").children[Math.min(place, pictures.length - 1)]?.querySelector(".stop") ?? at("files")).focus();
  say(`Removed ${picture.name}.`);
}

/** Return the captions by the names that the server gives the pictures: 0001, 0002, and so on. */
function captionsOf() {
  const named = pictures.map(({ caption }, index) => [String(index + 1).padStart(4, "0"), caption.trim().replace(/\s+/g, " ")]);
  return Object.fromEntries(named.filter(([, caption]) => caption));
}

/** Upload all pictures and return the id of their data set; `progress` is called with a share of it. */
async function upload(progress, signal) {
  const blobs = pictures.map(({ blob }) => blob);
  const files = blobs.map(({ type, size }) => ({ type, size }));
  const headers = { "Content-Type": "application/json", Accept: "application/json" };
  const response = await ask("datasets", { method: "POST", headers, body: JSON.stringify({ files }), signal });
  const { dataset, uploads } = await response.json();
  const sent = files.map(() => 0);
  const total = files.reduce((sum, { size }) => sum + size, 0);
  const left = uploads.map((form, index) => ({ form, index }));
  const work = async () => {
    for (let next = left.shift(); next; next = left.shift()) {
      const { form, index } = next;
      await sendFile(form, blobs[index], signal, (share) => {
        sent[index] = share * files[index].size;
        progress(sent.reduce((sum, each) => sum + each, 0) / total);
      });
    }
  };
  await Promise.all(Array.from({ length: UPLOADS_AT_ONCE }, work));
  return dataset;
}

async function sendFile(form, blob, signal, progress) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await sendOnce(form, blob, signal, progress);
    } catch (error) {
      // What S3 refuses it would refuse again.
      if (!(error instanceof Problem) || attempt === TRIES || (error.status >= 400 && error.status < 500)) throw error;
      await pause(2 ** attempt, signal);
    }
  }
}

/** Send a form to S3. Unlike fetch, XMLHttpRequest reports how much is sent. */
function sendOnce({ url, fields }, blob, signal, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const body = new FormData();
    for (const [name, value] of Object.entries(fields)) body.append(name, value);
    body.append("file", blob);
    const stop = () => { request.abort(); reject(signal.reason); };
    const fail = () => reject(new Problem("A picture could not be uploaded. Try again.", { status: request.status }));
    if (signal.aborted) return stop();
    signal.addEventListener("abort", stop, { once: true });
    request.upload.addEventListener("progress", ({ loaded, total }) => progress(total ? loaded / total : 0));
    request.addEventListener("error", fail);
    request.addEventListener("load", () => {
      signal.removeEventListener("abort", stop);
      if (request.status < 200 || request.status > 299) return fail();
      progress(1);
      resolve();
    });
    request.open("POST", url);
    request.send(body);
  });
}
