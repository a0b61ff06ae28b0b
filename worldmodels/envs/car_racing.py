"""CarRacing-v3 with stock physics and a fast camera.

Stock CarRacing draws some 700 polygons at 1000×800 for each frame and shrinks the picture: 99 % of its time. Here the
track is drawn once for each episode into a texture that the camera looks at through one affine warp; only the car, the
indicators and the score are drawn anew. Physics, seeds and rewards are the stock class's own.

Coordinates: world (Box2D's units), screen (the stock window, 1000×800, y downwards), frame (what is returned).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import cv2
import gymnasium
import numpy as np
import pygame
from gymnasium import spaces
from gymnasium.envs.box2d import car_dynamics, car_racing
from gymnasium.envs.box2d.car_racing import PLAYFIELD, SCALE, WINDOW_H, WINDOW_W, ZOOM, FrictionDetector
from gymnasium.wrappers import TimeLimit

from .action_repeat import ActionRepeat
from .track_rules import LapTruncates, MissedTilePrice, OffRoadEnd, OffRoadStart, OneLap

TEXELS = 2.0  # per world unit at the finest level; a frame takes 1.6 by 1.9 samples a unit
BAR_TOP = 700  # screen row where the indicator bar begins
CAR_OVERSAMPLE = 4  # samples a pixel and axis where the car is drawn
FRACTION = 4  # bits of OpenCV's fixed-point coordinates behind the point
SPILL = 0.58  # texels by which OpenCV's smooth polygons reach beyond their edges, measured; less what stock's own do
# stock frames are shrunk by pygame's smoothscale, which truncates in each of its two passes: flat colours lose 2
SHRINK_LOSS = (2, 2, 2, 0)
# of `make`, for training alone
RULES = (
    "off_road_start",
    "off_road_home",
    "off_road_frames",
    "off_road_share",
    "lap_truncates",
    "one_lap",
    "missed_tile_price",
)
CAR_REACH = 4.0  # world units from the hull's centre that hold all of the car


class _TouchRecorder(FrictionDetector):
    """The stock detector, which also notes the tiles that have lost their shade since the last frame."""

    def __init__(self, env: CarRacing, lap_complete_percent: float):
        super().__init__(env, lap_complete_percent)
        self.touched: list[Any] = []  # in their order, on which the pixels of shared edges depend

    def _contact(self, contact: Any, begin: bool) -> None:
        for fixture in (contact.fixtureA, contact.fixtureB):
            tile = fixture.body.userData
            if tile and "road_friction" in tile.__dict__ and not tile.__dict__.get("plain"):
                tile.plain = True
                self.touched.append(tile)
        super()._contact(contact, begin)


class CarRacing(car_racing.CarRacing):
    """Stock CarRacing-v3, drawn fast.

    size: 96 gives the stock frame u8 [96, 96, 3]; 64 gives the paper's, rows 0–83 shrunk to u8 [64, 64, 3], drawn
    directly.
    """

    def __init__(self, *args: Any, size: int = 96, **kwargs: Any):
        if size not in (64, 96):
            raise ValueError(f"size must be 96 (the stock frame) or 64 (the paper's crop), not {size}")
        super().__init__(*args, **kwargs)
        self.size = size
        self.observation_space = spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.rows = 84 if size == 96 else 64  # of the frame that show the world
        self.screen_rows = BAR_TOP
        self.scale = (size / WINDOW_W, self.rows / self.screen_rows)  # frame pixels a screen pixel
        self.levels: list[np.ndarray] = []
        self.scores: dict[str, np.ndarray] = {}

    def _create_track(self) -> bool:
        made = super()._create_track()
        if made:
            self.levels = []
            # Box2D keeps no reference of its own to its listener
            self.recorder = _TouchRecorder(self, self.lap_complete_percent)
            self.world.contactListener = self.recorder
        return made

    def _render(self, mode: str) -> Any:
        if mode != "state_pixels":
            return super()._render(mode)
        if not self.levels:
            self.levels = [self._paint_track()]
            self.car_shapes = _CarShapes(self.car)
        self._repaint_touched()

        hull = self.car.hull  # pyright: ignore[reportOptionalMemberAccess]
        zoom = 0.1 * SCALE * max(1 - self.t, 0) + ZOOM * SCALE * min(self.t, 1)
        camera = _camera(hull.position[0], hull.position[1], hull.angle, zoom)
        frame = np.empty((self.size, self.size, 3), np.uint8)
        frame[: self.rows] = self._look(camera, (self.size, self.rows))
        self._draw_car(frame, camera, zoom)
        if self.size == 96:
            self._draw_bar(frame[self.rows :])
        return cv2.subtract(frame, SHRINK_LOSS, dst=frame)  # pyright: ignore[reportCallIssue, reportArgumentType]

    # the track

    def _paint_track(self) -> np.ndarray:
        """The playfield from above, u8 [N, N, 3], row 0 at y = −PLAYFIELD."""
        texture = _meadow(tuple(int(c) for c in self.bg_color), tuple(int(c) for c in self.grass_color)).copy()
        polygons = np.array([polygon for polygon, _ in self.road_poly])
        # kerbs stand among the tiles; their colours are constants
        is_tile = [not isinstance(color, tuple) for _, color in self.road_poly]
        self.tile_polygons = polygons[is_tile]
        for polygon, (_, color) in zip(_fixed(_narrowed(polygons)), self.road_poly, strict=True):
            cv2.fillConvexPoly(texture, polygon, [int(c) for c in color], cv2.LINE_AA, FRACTION)
        return texture

    def _repaint_touched(self) -> None:
        for tile in self.recorder.touched:
            if tile.idx % 3:  # every third tile has the plain colour from the start
                for number, texture in enumerate(self.levels):
                    texels = TEXELS / 2**number
                    corners = _narrowed(self.tile_polygons[tile.idx], texels)
                    _fill(texture, corners, self.road_color, texels)
        self.recorder.touched.clear()

    def _level(self, density: float) -> tuple[np.ndarray, float]:
        """The coarsest texture with at least `density` texels a world unit, and how many it has."""
        texels, number = TEXELS, 0
        while texels / 2 >= density:
            number, texels = number + 1, texels / 2
        while len(self.levels) <= number:
            last = self.levels[-1]
            half = (last.shape[1] // 2, last.shape[0] // 2)
            self.levels.append(cv2.resize(last, half, interpolation=cv2.INTER_AREA))
        return self.levels[number], texels

    # the camera

    def _look(self, camera: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The world as the camera sees it, one sample for each pixel, u8 [size[1], size[0], 3]."""
        # plain numbers: on 2×3 matrices NumPy's calls would cost more than the warp
        (a, b, c), (d, e, f) = camera.tolist()
        texture, texels = self._level(max(self.scale) * math.hypot(a, b))
        unit = texels / (a * e - b * d)
        x_step, y_step = 1 / self.scale[0], 1 / self.scale[1]
        x, y = x_step / 2 - c, y_step / 2 - f  # the first sample on the screen, as seen from the world's origin
        centre = PLAYFIELD * texels - 0.5
        matrix = np.array(
            [
                [e * unit * x_step, -b * unit * y_step, (e * x - b * y) * unit + centre],
                [-d * unit * x_step, a * unit * y_step, (a * y - d * x) * unit + centre],
            ]
        )
        return cv2.warpAffine(
            texture, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT
        )

    def _draw_car(self, frame: np.ndarray, camera: np.ndarray, zoom: float) -> None:
        """Enlarge the pixels around the car, draw it there, and average: pixels beside the car stay what they were."""
        centre = (WINDOW_W / 2 * self.scale[0], (WINDOW_H - WINDOW_H / 4) * self.scale[1])
        reach_x, reach_y = CAR_REACH * zoom * self.scale[0] + 1, CAR_REACH * zoom * self.scale[1] + 1
        left, top = max(0, math.floor(centre[0] - reach_x)), max(0, math.floor(centre[1] - reach_y))
        right, bottom = min(self.size, math.ceil(centre[0] + reach_x)), min(self.rows, math.ceil(centre[1] + reach_y))
        target = frame[top:bottom, left:right]
        size = (right - left, bottom - top)
        patch = cv2.resize(
            target, (size[0] * CAR_OVERSAMPLE, size[1] * CAR_OVERSAMPLE), interpolation=cv2.INTER_NEAREST
        )
        (a, b, c), (d, e, f) = camera.tolist()
        x, y = (scale * CAR_OVERSAMPLE for scale in self.scale)
        self.car_shapes.draw(
            patch,
            (a * x, b * x, c * x - left * CAR_OVERSAMPLE - 0.5, d * y, e * y, f * y - top * CAR_OVERSAMPLE - 0.5),
        )
        target[:] = cv2.resize(patch, size, interpolation=cv2.INTER_AREA)

    # the bar below

    def _draw_bar(self, bar: np.ndarray) -> None:
        """Indicators and score, as in the stock class, averaged from the screen's scale."""
        car: Any = self.car
        s, h = WINDOW_W / 40, WINDOW_H / 40
        canvas = np.zeros((96, 960, 3), np.uint8)  # eight and ten samples a pixel

        def rectangle(left: float, right: float, top: float, bottom: float, color: tuple[int, int, int]) -> None:
            # screen to canvas; polygons on a screen include their border pixels
            x0, x1 = sorted((left, right))
            y0, y1 = sorted((top, bottom))
            columns = slice(max(0, round(x0 * 0.96)), max(0, round((x1 + 1) * 0.96)))
            rows = slice(max(0, round((y0 - BAR_TOP) * 0.96)), max(0, round((y1 + 1 - BAR_TOP) * 0.96)))
            canvas[rows, columns] = color

        def vertical(place: int, value: float, color: tuple[int, int, int]) -> None:
            if abs(value) > 0:
                rectangle(place * s, (place + 1) * s, WINDOW_H - h - h * value, WINDOW_H - h, color)

        def horizontal(place: int, value: float, color: tuple[int, int, int]) -> None:
            if abs(value) > 0:
                rectangle(place * s, (place + value) * s, WINDOW_H - 4 * h, WINDOW_H - 2 * h, color)

        def threshold(value: float) -> float:
            return value if abs(value) > 1e-4 else 0.0

        velocity = car.hull.linearVelocity
        vertical(5, 0.02 * threshold(math.hypot(velocity[0], velocity[1])), (255, 255, 255))
        for wheel, color in enumerate(((0, 0, 255), (0, 0, 255), (51, 0, 255), (51, 0, 255))):
            vertical(7 + wheel, 0.01 * threshold(car.wheels[wheel].omega), color)
        horizontal(20, -10.0 * threshold(car.wheels[0].joint.angle), (0, 255, 0))
        horizontal(30, -0.8 * threshold(car.hull.angularVelocity), (255, 0, 0))
        cv2.resize(canvas, (96, 12), dst=bar, interpolation=cv2.INTER_AREA)
        score = self._score(f"{self.reward:04.0f}")
        bar[:, : score.shape[1]] = np.maximum(bar[:, : score.shape[1]], score)

    def _score(self, text: str) -> np.ndarray:
        """The score's pixels u8 [12, 12, 3], kept for each text."""
        if text not in self.scores:
            pygame.font.init()
            screen = pygame.Surface((125, 100))
            font = pygame.font.Font(pygame.font.get_default_font(), 42)
            picture = font.render(text, True, (255, 255, 255), (0, 0, 0))
            place = picture.get_rect()
            place.center = (60, int(WINDOW_H - WINDOW_H * 2.5 / 40 - BAR_TOP))
            screen.blit(picture, place)
            pixels = np.transpose(pygame.surfarray.array3d(screen), (1, 0, 2))
            self.scores[text] = cv2.resize(pixels, (12, 12), interpolation=cv2.INTER_AREA)
        return self.scores[text]


def make(
    size: int = 96,
    action_repeat: int = 1,
    time_limit: int = 1000,
    off_road_start: float = 0.0,
    off_road_home: int | None = None,
    off_road_frames: int | None = None,
    off_road_share: float = 1.0,
    lap_truncates: bool = False,
    one_lap: bool = False,
    missed_tile_price: float | None = None,
    **kwargs: Any,
) -> gymnasium.Env:
    """The entry point of worldmodels/CarRacing-v3: `time_limit` counts simulator frames, as the stock limit does.

    Rules for training, see track_rules.py: off_road_start is the share and off_road_home the home of `OffRoadStart`,
    off_road_frames and off_road_share are of `OffRoadEnd`, lap_truncates for `LapTruncates`, one_lap for `OneLap`,
    missed_tile_price of `MissedTilePrice`. Raises ValueError for another size than 64 or 96, an action_repeat,
    off_road_frames or off_road_home below 1, a share that is none, or a price below 0.
    """
    env: gymnasium.Env = TimeLimit(CarRacing(size=size, **kwargs), time_limit)
    env = OffRoadStart(env, off_road_start, off_road_home) if off_road_start else env
    env = env if off_road_frames is None else OffRoadEnd(env, off_road_frames, off_road_share)
    env = LapTruncates(env) if lap_truncates else env
    env = OneLap(env) if one_lap else env
    env = env if missed_tile_price is None else MissedTilePrice(env, missed_tile_price)
    return env if action_repeat == 1 else ActionRepeat(env, action_repeat)


def scored(environment: dict[str, Any], stock: bool = True) -> dict[str, Any]:
    """The description of an environment as scores are taken on it: CarRacing without the rules made for training.

    stock: drawn by the stock class as well, for scores that are compared.
    """
    if environment["id"] != "worldmodels/CarRacing-v3":
        return environment
    kwargs = {name: value for name, value in environment["kwargs"].items() if name not in RULES}
    if not stock:
        return {**environment, "kwargs": kwargs}
    size = kwargs.pop("size", 96)
    crop = {"crop_rows": 84, "frame_size": 64} if size == 64 else {}
    return {**environment, "id": "CarRacing-v3", "kwargs": kwargs, **crop}


def _camera(x: float, y: float, hull_angle: float, zoom: float) -> np.ndarray:
    """World to screen, [2, 3]: the hull stands in the middle, a quarter above the lower edge, and looks up."""
    cos, sin = math.cos(-hull_angle) * zoom, math.sin(-hull_angle) * zoom
    matrix = np.array([[cos, -sin, 0.0], [-sin, -cos, 0.0]])  # the screen's y points down
    matrix[0, 2] = WINDOW_W / 2 - matrix[0, 0] * x - matrix[0, 1] * y
    matrix[1, 2] = WINDOW_H - WINDOW_H / 4 - matrix[1, 0] * x - matrix[1, 1] * y
    return matrix


@lru_cache(maxsize=4)
def _meadow(background: tuple[int, ...], grass: tuple[int, ...]) -> np.ndarray:
    """The playfield without a track."""
    side = math.ceil(2 * PLAYFIELD * TEXELS)
    halved = side + -side % 16  # four coarser levels at exactly half the size, which OpenCV shrinks fast
    texture = np.zeros((halved, halved, 3), np.uint8)
    texture[:side, :side] = background
    square, inset = PLAYFIELD / 20, SPILL / TEXELS
    for x in range(-20, 20, 2):
        for y in range(-20, 20, 2):
            left, right, top, bottom = (square * place for place in (x, x + 1, y, y + 1))
            left, right, top, bottom = left + inset, right - inset, top + inset, bottom - inset
            _fill(texture, [(left, top), (right, top), (right, bottom), (left, bottom)], grass)
    return texture


def _fixed(polygons: Any, texels: float = TEXELS) -> np.ndarray:
    """World coordinates [..., 2] as OpenCV's fixed-point texels."""
    return np.rint(((np.array(polygons) + PLAYFIELD) * texels - 0.5) * 2**FRACTION).astype(np.int32)


def _narrowed(polygons: np.ndarray, texels: float = TEXELS) -> np.ndarray:
    """Tiles and kerbs [..., 4, 2], left, right, right, left, less what their sides would spill; ends may overlap."""
    left, right = polygons[..., [0, 3], :], polygons[..., [1, 2], :]
    across = right - left
    width = np.linalg.norm(across, axis=-1, keepdims=True)
    spill = SPILL / texels
    inwards = across * (spill / np.maximum(width, 2 * spill))  # some kerbs have no width, where the lap closes
    left, right = left + inwards, right - inwards
    return np.stack([left[..., 0, :], right[..., 0, :], right[..., 1, :], left[..., 1, :]], -2)


def _fill(texture: np.ndarray, polygon: Any, color: Any, texels: float = TEXELS) -> None:
    """Fill a polygon given in world coordinates."""
    cv2.fillConvexPoly(texture, _fixed(polygon, texels), [int(c) for c in color], cv2.LINE_AA, FRACTION)


class _CarShapes:
    """The car's polygons in the coordinates of their bodies, ready to be moved all at once.

    Wheels first, then the white marks that turn with them, the hull on top, as the stock class draws them.
    """

    def __init__(self, car: Any):
        self.wheels, self.hull = list(car.wheels), car.hull
        mark = [(0.0, 0.0)] * 4
        shapes = [[wheel.fixtures[0].shape.vertices, mark] for wheel in self.wheels]
        shapes.append([fixture.shape.vertices for fixture in self.hull.fixtures])
        # bodies with fewer corners are padded: one product then moves all
        most = max(sum(map(len, own)) for own in shapes)
        self.points = np.ones((len(shapes), most, 3))
        self.hull_parts, done = [], 0
        for number, own in enumerate(shapes):
            corners = [corner for polygon in own for corner in polygon]
            self.points[number, : len(corners), :2] = corners
        for polygon in shapes[-1]:
            self.hull_parts.append(slice(done, done + len(polygon)))
            done += len(polygon)
        width = car_dynamics.WHEEL_W * car_dynamics.SIZE
        self.points[:-1, 4:8, 0] = (-width, width, width, -width)
        self.wheel_color, self.hull_color = (tuple(int(c * 255) for c in b.color) for b in (self.wheels[0], self.hull))

    def draw(self, picture: np.ndarray, to_picture: tuple[float, ...]) -> None:
        """Draw the car as it stands; to_picture: row by row the [2, 3] matrix from the world to the picture."""
        a, b, c, d, e, f = to_picture
        rows = []
        for body in (*self.wheels, self.hull):
            cos, sin = math.cos(body.angle), math.sin(body.angle)
            x, y = body.position
            rows += (a * cos + b * sin, b * cos - a * sin, a * x + b * y + c)
            rows += (d * cos + e * sin, e * cos - d * sin, d * x + e * y + f)
        seen = []
        for number, wheel in enumerate(self.wheels):
            ends = _mark_of(wheel.phase)
            if ends is not None:
                self.points[number, 4:8, 1] = (ends[0], ends[0], ends[1], ends[1])
                seen.append(number)
        moved = self.points @ np.array(rows).reshape(-1, 2, 3).transpose(0, 2, 1)
        fixed: Any = np.rint(moved * 2**FRACTION).astype(np.int32)
        cv2.fillPoly(picture, fixed[:4, :4], self.wheel_color, shift=FRACTION)
        if seen:
            cv2.fillPoly(picture, fixed[seen, 4:8], car_dynamics.WHEEL_WHITE, shift=FRACTION)
        for part in self.hull_parts:
            cv2.fillPoly(picture, [fixed[-1, part]], self.hull_color, shift=FRACTION)


def _mark_of(phase: float) -> tuple[float, float] | None:
    """Where the white mark that turns with a wheel begins and ends along it; None while it is below."""
    s1, s2, c1, c2 = math.sin(phase), math.sin(phase + 1.2), math.cos(phase), math.cos(phase + 1.2)
    if s1 > 0 and s2 > 0:
        return None
    if s1 > 0:
        c1 = math.copysign(1, c1)
    if s2 > 0:
        c2 = math.copysign(1, c2)
    radius = car_dynamics.WHEEL_R * car_dynamics.SIZE
    return radius * c1, radius * c2
