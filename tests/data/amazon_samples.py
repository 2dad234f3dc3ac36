"""Small Amazon Reviews files in their official formats, oddities included."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

NUM_ITEMS, NUM_USERS, EVENTS_PER_USER = 120, 60, 10
DAY = 86_400


def asin(item: int) -> str:
    """Some look like numbers with a leading zero, as old ASINs do."""
    return f"{item:010d}" if item < 10 else f"B00{item:07d}"


def item_of(user: int, step: int) -> int:
    return (user * 7 + step * 11) % NUM_ITEMS


def write_lines(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def metadata_2014() -> list[dict[str, Any]]:
    """Metadata of every item but number 6, which has none."""
    records: list[dict[str, Any]] = [
        {
            "asin": asin(item),
            "title": f"Lipstick {item}",
            "price": 10.0 + item,
            "imUrl": f"http://ecx.images-amazon.com/images/I/{item}.jpg",
            "brand": "Acme",
            "salesRank": {"Beauty": item},
            "related": {"also_bought": [asin(item + 1)]},
            "categories": [["Health", "Care"], ["Beauty", "Makeup", "Lips"]],
        }
        for item in range(NUM_ITEMS)
    ]
    records[8]["categories"] = records[9]["categories"] = [["Health", "Care"]]
    records[0] |= {
        "title": "Tea &amp;amp; Honey",
        "description": "5&quot; tall",
        "categories": [["Health", "Bath"], ["Beauty", "Bath &amp; Body"]],
    }
    for missing in ("title", "brand", "price", "imUrl"):
        del records[1][missing]
    records[2] |= {"brand": "Unknown", "price": "$1,299.00", "title": "nan"}
    records[3] |= {"brand": "", "categories": [[""], []]}
    records[4] |= {"title": "Dr. Scholl's 'asin': 'X' balm"}
    del records[6]
    return records


def write_2014(folder: Path, *, log: str = "reviews_Beauty_5.json.gz") -> None:
    """The original files of 2014, with two broken reviews and one broken metadata line."""
    reviews = [
        json.dumps(
            {
                "reviewerID": f"A{user:013d}",
                "asin": asin(item_of(user, step)),
                "reviewerName": 'Jo "the nose"',
                "helpful": [0, 0],
                "reviewText": 'It says "asin": "B000000000" \\ \u00e9 {',
                "overall": 5.0,
                "unixReviewTime": 1_390_000_000 // DAY * DAY + step // 2 * DAY,
                "reviewTime": "01 20, 2014",
            }
        )
        for user in range(NUM_USERS)
        for step in range(EVENTS_PER_USER)
    ]
    reviews[20] = reviews[20][:50]
    reviews[30] = '{"reviewerID": "A1", "asin": "B0000000099"}'
    reviews.insert(40, "")
    write_lines(folder / log, reviews)
    write_lines(folder / "meta_Beauty.json.gz", metadata_lines_2014())


def metadata_lines_2014() -> list[str]:
    lines = [repr(record) for record in metadata_2014()]
    lines[50] = lines[50][:-30]  # cut off
    lines.insert(60, "   ")
    lines.insert(70, repr({"asin": asin(5), "title": "Second line of item 5"}))
    lines += [repr({"asin": f"B99{n:07d}", "title": "Not in the log"}) for n in range(50)]
    return [*lines, "{'asin': 'B999999999', 'title': "]


def write_p5(folder: Path) -> None:
    """P5's archive; item i has number i + 1, user u number u + 1."""
    sequences = [
        " ".join(str(n) for n in [user + 1, *(item_of(user, s) + 1 for s in range(10))])
        for user in range(NUM_USERS)
    ]
    write_lines(folder / "sequential_data.txt", [*sequences, ""])
    maps = {
        "user2id": {f"A{user:013d}": str(user + 1) for user in range(NUM_USERS)},
        "item2id": {asin(item): str(item + 1) for item in reversed(range(NUM_ITEMS))},
    }
    (folder / "datamaps.json").write_text(json.dumps(maps), encoding="utf-8")
    write_lines(folder / "meta.json.gz", metadata_lines_2014())


def metadata_2023() -> list[dict[str, Any]]:
    """Metadata of every item but number 6, which has none."""
    records: list[dict[str, Any]] = [
        {
            "main_category": "All Beauty",
            "title": f"Lipstick {item}",
            "average_rating": 4.8,
            "rating_number": 10,
            "features": ["Vegan", "Matte"],
            "description": ["First.", "Second."],
            "price": 12.5,
            "images": [
                {
                    "thumb": f"https://m.media-amazon.com/{item}_t.jpg",
                    "large": f"https://m.media-amazon.com/{item}.jpg",
                    "variant": "MAIN",
                    "hi_res": f"https://m.media-amazon.com/{item}_h.jpg",
                }
            ],
            "videos": [],
            "store": "Acme",
            "categories": ["Beauty & Personal Care", "Makeup", "Lips"],
            "details": {"Brand": "Brand of details", "UPC": "1"},
            "parent_asin": asin(item),
            "bought_together": None,
        }
        for item in range(NUM_ITEMS)
    ]
    records[0] |= {"title": "Tea &amp; Honey", "categories": ["Bath &amp; Body", "", "Soap"]}
    records[1] |= {"title": None, "price": None, "store": None, "details": {}, "images": []}
    records[2] |= {"price": "from 12.99", "store": None, "description": []}
    records[3] |= {"price": "\u2014", "store": "", "details": {"Brand": "Aqua"}}
    records[4] |= {"categories": [], "features": [], "description": []}
    records[4]["images"] = [{"large": None, "hi_res": "https://m.media-amazon.com/4_h.jpg"}]
    del records[6]
    return records


def write_2023(folder: Path, *, suffix: str = ".gz") -> None:
    """The files of 2023, with one broken review and one broken metadata line."""
    reviews = [
        json.dumps(
            {
                "rating": 5.0,
                "title": "Lovely",
                "text": "It <br /> works",
                "images": [],
                "asin": f"V{step}",
                "parent_asin": asin(item_of(user, step)),
                "user_id": f"AG{user:026d}",
                "timestamp": 1_588_687_728_923 + step,
                "helpful_vote": 0,
                "verified_purchase": True,
            }
        )
        for user in range(NUM_USERS)
        for step in range(EVENTS_PER_USER)
    ]
    reviews[20] = reviews[20][:50]
    metadata = [json.dumps(record) for record in metadata_2023()]
    metadata[50] = metadata[50][:-30]
    metadata.insert(70, json.dumps({"parent_asin": asin(5), "title": "Second line of item 5"}))
    metadata += [json.dumps({"parent_asin": f"B99{n}", "title": "?"}) for n in range(50)]
    write_lines(folder / f"All_Beauty.jsonl{suffix}", reviews)
    write_lines(folder / f"meta_All_Beauty.jsonl{suffix}", metadata)
