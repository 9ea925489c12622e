// --- The gallery: this browser's pictures, in IndexedDB ----------------------------------------

const MOST_KEPT = 200;

class Gallery {
  #opening = Gallery.#open();

  /** Whether what is kept survives a reload; some private windows refuse to keep anything. */
  async lasts() {
    return await this.#opening !== null;
  }

  /** Return every record, the newest first. */
  async all() {
    const records = await this.#ask("readonly", (store) => store.getAll()).catch(() => null);
    return (records ?? []).sort((a, b) => b.made - a.made);
  }

  /** Keep a record; return "kept", "full", or "refused" if there is no gallery for it at all. */
  async keep(record) {
    try {
      const kept = await this.#ask("readwrite", (store) => store.put(record));
      return kept === record.id ? "kept" : "refused";
    } catch (error) {
      // In WebKit's private windows a gallery opens, but refuses every Blob: no room helps there.
      return error?.name === "QuotaExceededError" ? "full" : "refused";
    }
  }

  drop(id) {
    return this.#ask("readwrite", (store) => store.delete(id));
  }

  async #ask(mode, question) {
    const database = await this.#opening;
    if (!database) return null;
    const transaction = database.transaction("works", mode);
    const request = question(transaction.objectStore("works"));
    // Only a transaction that is complete has kept anything: a full disk may show at its end.
    await new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error ?? request.error);
    });
    return request.result;
  }

  static async #open() {
    try {
      const opening = indexedDB.open("easel", 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore("works", { keyPath: "id" });
      return await new Promise((resolve, reject) => {
        opening.onsuccess = () => resolve(opening.result);
        opening.onerror = () => reject(opening.error);
      });
    } catch {
      return null;
    }
  }
}
