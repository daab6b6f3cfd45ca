"use strict";
// One player at a time; keys 1 to 9 go to another version of the same file at the same moment.
const players = [...document.querySelectorAll("audio")];
let current = null;
const versions = (player) => [...player.closest(".versions").querySelectorAll("audio")];

function choose(player) {
  if (current) current.closest(".version").classList.remove("chosen");
  current = player;
  player.closest(".version").classList.add("chosen");
}

function alone(player) {
  for (const other of players) if (other !== player) other.pause();
  choose(player);
}

function start(player) {
  alone(player); // at once: the event of playing comes later
  // Rejected where the next click or key comes before the sound: no matter.
  player.play().catch(() => {});
}

for (const player of players) {
  const cell = player.closest(".version");
  const picture = cell.querySelector(".picture");
  const line = picture.querySelector("i");
  player.addEventListener("play", () => {
    alone(player);
    const follow = () => {
      line.style.display = "block";
      line.style.left = `${(100 * player.currentTime) / player.duration}%`;
      if (!player.paused) requestAnimationFrame(follow);
    };
    follow();
  });
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    player.currentTime = (player.duration * (event.clientX - box.left)) / box.width;
    start(player);
  });
}

document.addEventListener("keydown", (event) => {
  if (!current || event.ctrlKey || event.metaKey || event.altKey) return;
  const next = versions(current)[Number(event.key) - 1];
  if (!next || next === current) return;
  const before = current;
  const playing = !before.paused;
  before.pause();
  next.currentTime = Math.min(before.currentTime, next.duration || 0);
  choose(next);
  if (playing) start(next);
});
