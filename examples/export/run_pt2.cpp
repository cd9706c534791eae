// Run a model that was exported with --aot, run_pt2 MODEL.pt2 < structure.txt, in C++: no Python.
//
// structure.txt: the number of blocks and a line "cutoff nsel" for each, in the order of "blocks" in the record
// (unzip -p MODEL.pt2 '*/dpmodel.json'); the cell, nine numbers; the number of atoms and a line "type x y z" for each.
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <vector>

struct Neighbor {
  double distance;
  int64_t atom;
  torch::Tensor shift;
};

int main(int, char** argv) {
  int64_t n_blocks, n;
  std::cin >> n_blocks;
  std::vector<double> cutoffs(n_blocks);
  std::vector<int64_t> nsel(n_blocks);
  for (int64_t b = 0; b < n_blocks; ++b) std::cin >> cutoffs[b] >> nsel[b];
  auto cell = torch::empty({3, 3}, torch::kDouble);
  for (int k = 0; k < 9; ++k) std::cin >> cell.data_ptr<double>()[k];
  std::cin >> n;
  auto types = torch::empty({n}, torch::kLong);
  auto x = torch::empty({n, 3}, torch::kDouble);
  for (int64_t i = 0; i < n; ++i) {
    std::cin >> types.data_ptr<int64_t>()[i];
    for (int k = 0; k < 3; ++k) std::cin >> x.data_ptr<double>()[3 * i + k];
  }

  // Every image within the widest cutoff, nearest first; more images are looked at than a cell can need.
  const double reach = *std::max_element(cutoffs.begin(), cutoffs.end());
  auto most = torch::linalg_norm(torch::linalg_inv(cell), c10::nullopt, {{0}}) * reach + 2;
  int64_t m[3];
  for (int k = 0; k < 3; ++k) m[k] = (int64_t)std::ceil(most[k].item<double>());
  std::vector<std::vector<Neighbor>> near(n);
  for (int64_t a = -m[0]; a <= m[0]; ++a)
    for (int64_t b = -m[1]; b <= m[1]; ++b)
      for (int64_t c = -m[2]; c <= m[2]; ++c) {
        auto shift = torch::tensor({(double)a, (double)b, (double)c}, torch::kDouble).matmul(cell);
        auto r = (x.unsqueeze(0) + shift - x.unsqueeze(1)).norm(2, -1);
        auto at = r.accessor<double, 2>();
        for (int64_t i = 0; i < n; ++i)
          for (int64_t j = 0; j < n; ++j)
            if (at[i][j] <= reach && !(i == j && a == 0 && b == 0 && c == 0)) near[i].push_back({at[i][j], j, shift});
      }
  size_t width = 2;
  for (auto& list : near) {
    std::sort(list.begin(), list.end(), [](auto& p, auto& q) { return p.distance < q.distance; });
    width = std::max(width, list.size());
  }
  auto neighbors = torch::arange(n, torch::kLong).unsqueeze(1).repeat({1, (int64_t)width + 1});
  auto shifts = torch::tensor({100.0 * reach, 0.0, 0.0}, torch::kDouble).repeat({n, (int64_t)width + 1, 1});
  std::vector<torch::Tensor> masks;
  for (int64_t b = 0; b < n_blocks; ++b) masks.push_back(torch::zeros({n, (int64_t)width}, torch::kBool));
  for (int64_t i = 0; i < n; ++i)
    for (size_t s = 0; s < near[i].size(); ++s) {
      neighbors[i][s] = near[i][s].atom;
      shifts[i][s] = near[i][s].shift;
      for (int64_t b = 0; b < n_blocks; ++b) masks[b][i][s] = (int64_t)s < nsel[b] && near[i][s].distance <= cutoffs[b];
    }

  std::vector<torch::Tensor> arguments{x, types, neighbors, shifts};
  arguments.insert(arguments.end(), masks.begin(), masks.end());
  torch::inductor::AOTIModelPackageLoader program(argv[1]);
  auto results = program.run(arguments);  // energy, atomic energies, forces, virial, atomic virials
  std::printf("%.15g\n", results[0].item<double>());
  for (int64_t i = 0; i < n; ++i)
    std::printf("%.15g %.15g %.15g\n", results[2][i][0].item<double>(), results[2][i][1].item<double>(),
                results[2][i][2].item<double>());
}
