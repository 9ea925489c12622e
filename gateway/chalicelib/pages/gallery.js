// --- The gallery: this browser's pictures, in IndexedDB ----------------------------------------

const MOST_KEPT = 200;

const settled = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

class Gallery {
  #opening = Gallery.#open();

  /** Whether what is kept survives a reload; some private windows refuse to keep anything. */
  async lasts() {
    return await this.#opening !== null;
  }

  /** Return every record, the newest first. */
  async all() {
    const records = await this.#ask("readonly", (store) => store.getAll()) ?? [];
    return records.sort((a, b) => b.made - a.made);
  }

  /** Keep a record; false means that there is no room, or no gallery. */
  async keep(record) {
    const kept = await this.#ask("readwrite", (store) => store.put(record)).catch(() => null);
    return kept === record.id;
  }

  drop(id) {
    return this.#ask("readwrite", (store) => store.delete(id));
  }

  async #ask(mode, question) {
    const database = await this.#opening;
    return database && settled(question(database.transaction("works", mode).objectStore("works")));
  }

  static async #open() {
    try {
      const opening = indexedDB.open("easel", 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore("works", { keyPath: "id" });
      return await settled(opening);
    } catch {
      return null;
    }
  }
}
